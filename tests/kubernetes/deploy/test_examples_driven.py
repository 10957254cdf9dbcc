"""Each example with a coordinator's document: the adapter launches one instance of each of its roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from heteroscale_coordinator.edge.adapters.catalogue import create_all
from heteroscale_coordinator.edge.crd import objects, words
from heteroscale_scheduler_adapters.port import Adapter, GateWish, Launch, Phase, Spot, Step
from tests.kubernetes.deploy.kustomize import Json, resolve
from tests.kubernetes.deploy.leader_worker_set import DEFINITION
from tests.kubernetes.deploy.test_overlays import DEPLOY, ROOT, SERVING, configured
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server.serve import ApiServer

SERVED = ("inference.networking.k8s.io/",)
"""Kinds that our server does not have."""
FILES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))


def everything(path: Path) -> list[Json]:
    """Return the objects of the overlay with an example over it, as they are applied."""
    found = resolve(DEPLOY / "overlays" / "drive")
    for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        same = [o for o in found if (o["kind"], o["metadata"]) == (one["kind"], one["metadata"])]
        for before in same:
            found.remove(before)
        found.append(one)
    return [one for one in found if not one["apiVersion"].startswith(SERVED)]


def driven(path: Path) -> bool:
    """Return whether an example is of the overlay that drives."""
    return "keda.sh/" not in path.read_text(encoding="utf-8")


def adapter_of(every: list[Json], login: Path) -> Adapter:
    """Return the adapter of the document, which reaches the tests' server."""
    (settings,) = configured(
        [o for o in every if o["kind"] in ("ConfigMap", "Deployment")]
    ).adapters
    options = {**settings.options, "kubeconfig": str(login)}
    ((_, adapter),) = create_all([settings.model_copy(update={"options": options})])
    return adapter


@pytest.mark.parametrize(
    "path", [one for one in FILES if driven(one)], ids=lambda path: str(path.name)
)
async def test_one_of_each_role_is_launched_gated_and_stopped(
    path: Path, small_kube: Kube, api_server: ApiServer, tmp_path: Path
) -> None:
    every = everything(path)
    for one in [SERVING, DEFINITION, *every]:
        if one["kind"] != "LeaderWorkerSet":
            small_kube.create(one)
    small_kube.namespace = "serving"
    lws = small_kube.place("leaderworkerset.x-k8s.io/v1", "leaderworkersets")
    small_kube.until(lambda: small_kube.http.get(lws).is_success)
    kubelet = Kubelet(small_kube)
    nodes = [kubelet.join(f"n{n}", gpus=64, labels=_labels()) for n in range(2)]
    for one in every:
        if one["kind"] == "LeaderWorkerSet":
            small_kube.create(one)
    adapter = adapter_of(every, api_server.kubeconfig(tmp_path / "login"))
    (service,) = [one for one in every if one["kind"] == words.KIND]
    roles = objects.parse(objects.read(service)).spec.roles
    await adapter.open()
    launches = tuple(
        Launch(
            f"i-{role.value}", "chat", role.value, said.template or "",
            tuple(Spot(node) for node in nodes[: said.ranks]), said.gpus,
            parameters=said.parameters,
        )
        for role, said in roles.items()
    )  # fmt: skip
    assert (await adapter.world()).notes == ()
    await adapter.launch(Step("r-1", "d-1", launches))
    kubelet.tick()
    kubelet.tick()
    for each in launches:
        await adapter.gate(each.instance_id, GateWish(open=False, reason="soft_scale_in"))
    world = await adapter.world()
    assert world.notes == ()
    mine = {key: world.running[key] for key in ("i-prefill", "i-decode")}
    assert {one.gate.open for one in mine.values()} == {False}
    assert [len(mine[each.instance_id].ranks) for each in launches] == [
        len(each.ranks) for each in launches
    ]
    for each in launches:
        assert mine[each.instance_id].phase in (Phase.READY, Phase.STARTING)
        await adapter.stop(each.instance_id, 0.0)
    kubelet.tick()
    kubelet.tick()
    assert not {"i-prefill", "i-decode"} & set((await adapter.world()).running)
    await adapter.close()


def _labels() -> dict[str, str]:
    return {"nvidia.com/gpu.product": "NVIDIA-H20"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_what_runs_vllm_ends_requests_before_it_ends(path: Path) -> None:
    """The grace is longer than the preStop sleep and vLLM's own time together."""
    pods = [
        spec
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        for spec in _pods(document)
    ]
    assert pods or "keda" in path.name
    for spec in pods:
        (container,) = spec["containers"]
        said = " ".join(container["args"]).split()
        timeout = int(said[said.index("--shutdown-timeout") + 1])
        sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] > timeout + sleep


def _pods(node: Any) -> list[Json]:
    """Return the specs of pods anywhere in an object, in a coordinator's document too."""
    if isinstance(node, str) and "kind: Coordinator" in node:
        return _pods(yaml.safe_load(node))
    if isinstance(node, list):
        return [spec for each in node for spec in _pods(each)]
    if not isinstance(node, dict):
        return []
    if "containers" in node:
        return [node]
    return [spec for each in node.values() for spec in _pods(each)]
