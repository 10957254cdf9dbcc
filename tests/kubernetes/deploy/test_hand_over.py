"""From an HPA to the coordinator and back, as docs/kubernetes.md says it: no two hands on one number."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_scheduler_adapters.port import Launch, RefusedError, Spot, Step
from tests.kubernetes.deploy.kustomize import Json
from tests.kubernetes.deploy.test_examples_driven import adapter_of, everything
from tests.kubernetes.deploy.test_overlays import ROOT, SERVING
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server.serve import ApiServer

PAIR = ROOT / "examples" / "kubernetes" / "deployment-pair.yaml"
HPA: Json = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "chat-decode", "namespace": "serving"},
    "spec": {
        "maxReplicas": 4,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-decode"},
    },
}


async def test_an_hpa_is_never_fought_on_the_way_there_and_back(
    small_kube: Kube, api_server: ApiServer, tmp_path: Path
) -> None:
    every = everything(PAIR)
    for one in [SERVING, *every, HPA]:
        small_kube.create(one)
    small_kube.namespace = "serving"
    kubelet = Kubelet(small_kube)
    node = kubelet.join("n1", gpus=16, labels={"nvidia.com/gpu.product": "NVIDIA-H20"})
    kubelet.tick()
    adapter = adapter_of(every, api_server.kubeconfig(tmp_path / "login"))
    await adapter.open()
    found = (await adapter.world()).running.values()
    assert sorted(one.role for one in found) == ["decode", "decode", "prefill"]
    assert {one.origin for one in found} == {""}, "what is handed over is ours as it runs"

    def step(request: str) -> Step:
        spots = (Spot(node),)
        return Step(request, "d-1", (Launch(request, "chat", "decode", "chat-decode", spots, 1),))

    def replicas() -> int:
        return int(small_kube.get("apps/v1", "deployments", "chat-decode")["spec"]["replicas"])

    with pytest.raises(RefusedError, match="HorizontalPodAutoscaler serving/chat-decode scales it"):
        await adapter.launch(step("i-1"))
    assert replicas() == 2
    small_kube.delete("autoscaling/v2", "horizontalpodautoscalers", "chat-decode")
    await adapter.launch(step("i-2"))
    assert replicas() == 3
    small_kube.create(HPA)
    (note,) = (await adapter.world()).notes
    assert "HorizontalPodAutoscaler serving/chat-decode scales it too" in note
    small_kube.patch(
        "apps/v1", "deployments", "chat-decode", {"spec": {"replicas": 1}}, sub="scale"
    )
    await adapter.world()
    with pytest.raises(RefusedError, match="HorizontalPodAutoscaler"):
        await adapter.launch(step("i-3"))
    assert replicas() == 1, "the HPA's number stands"
    await adapter.close()
