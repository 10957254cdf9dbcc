"""Kubernetes keeps the port's contract: by pods that stand for themselves, and by scaled objects.

Against KUBECONFIG if that is given, else against the API server of the tests; the kubelet is played. Its
nodes bear the names that the suite gives: on a cluster of others it runs alone (``-n 0``), or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes import create, names
from heteroscale_scheduler_adapters.port import Adapter
from tests.adapters.contract.harness import Cluster
from tests.adapters.contract.suite import PortContract
from tests.kubernetes import things
from tests.kubernetes.conftest import api_server, kube, small_kube
from tests.kubernetes.kube import Kube
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.server.faults import Fault, Wrong

__all__ = ["api_server", "kube", "small_kube"]

Json = dict[str, Any]
TYPE = "nvidia.com/gpu.product"
POD: Json = {"spec": things.pod_spec(1, ports=[{"containerPort": 8000}])}
POD["spec"]["containers"][0]["ports"] = POD["spec"].pop("ports")
PRESSED: Json = {
    "type": "MemoryPressure",
    "status": "True",
    "reason": "KubeletHasInsufficientMemory",
}


class Played:
    """A harness over an API server; what runs pods is played."""

    service = "chat"
    templates: Mapping[str, str] = {"prefill": "chat-prefill", "decode": "chat-decode"}
    pace = 0.02

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._kubelet = Kubelet(kube)
        self._stack = AsyncExitStack()
        only = "only the tests' own server can be made to fail"
        faults = () if kube.server else ("outage", "expire", "lose_next_answer")
        self.lacks: Mapping[str, str] = dict.fromkeys(faults, only)

    def body(self, role: str) -> Json:
        """Return what a template launches."""
        return {"pod": POD}

    loses: tuple[str, str] = ("POST", "/pods")
    """Method and path of the request of a launch whose answer is lost."""

    async def adapter(self) -> Adapter:
        options = {
            "kubeconfig": str(self._kube.config),
            "namespace": self._kube.namespace,
            "requests": {"perSecond": 10_000, "burst": 10_000},
            "topology": {"s1": ["example.com/rack"], "s2": ["example.com/row"]},
            "templates": [
                {"name": name, "role": role, "gpus": 1, **self.body(role)}
                for role, name in self.templates.items()
            ],
        }
        one = create("east", options)
        await one.open()
        self._stack.push_async_callback(one.close)
        return one

    async def close(self) -> None:
        await self._stack.aclose()

    # ---- its hardware and its users ------------------------------------------------------------

    async def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        levels = {"s1": "example.com/rack", "s2": "example.com/row"}
        labels = {levels[level]: domain for level, domain in (topology or {}).items()}
        self._kubelet.register(things.node(name, gpus=gpus, labels={TYPE: gpu_type, **labels}))

    async def remove_node(self, name: str) -> None:
        self._kube.delete("v1", "nodes", name)

    async def cordon(self, name: str, why: str) -> None:
        self._kube.patch("v1", "nodes", name, {"spec": {"unschedulable": True}})

    async def taint(self, name: str, key: str, value: str, effect: str) -> None:
        taints = [{"key": key, "value": value, "effect": effect}]
        self._kube.patch("v1", "nodes", name, {"spec": {"taints": taints}})

    async def quota(self, gpu_type: str, limit: int) -> None:
        hard = {"requests.nvidia.com/gpu": str(limit)}
        self._kube.create(
            {
                "apiVersion": "v1", "kind": "ResourceQuota",
                "metadata": {"name": "few"}, "spec": {"hard": hard},
            }
        )  # fmt: skip
        self._kube.until(
            lambda: "hard" in self._kube.get("v1", "resourcequotas", "few").get("status", {})
        )

    async def occupy(self, node: str, gpus: int) -> str:
        self._kube.create(things.pod("training", gpus=gpus, nodeName=node))
        self._kubelet.run("training")
        return f"pod/{self._kube.namespace}/training"

    async def others(self, role: str, node: str) -> str:
        labels = {names.SERVICE: self.service, names.ROLE: role}
        made = self._kube.create(things.pod("theirs", gpus=1, labels=labels, nodeName=node))
        self._kubelet.run("theirs")
        return f"pod-{made['metadata']['uid']}"

    # ---- its kubelets --------------------------------------------------------------------------

    def _pods(self, instance_id: str) -> list[Json]:
        chosen = f"{names.INSTANCE}={names.label_value(instance_id)}"
        return self._kube.list("v1", "pods", labelSelector=chosen)

    def _placed(self, instance_id: str) -> list[Json]:
        pods = self._pods(instance_id)
        return pods if all(pod["spec"].get("nodeName") for pod in pods) else []

    async def start(self, instance_id: str) -> None:
        for pod in self._kube.until(lambda: self._placed(instance_id)):
            self._kubelet.run(pod["metadata"]["name"], ready=False)

    async def ready(self, instance_id: str) -> None:
        for pod in self._kube.until(lambda: self._placed(instance_id)):
            self._kubelet.run(pod["metadata"]["name"])

    async def fail(self, instance_id: str) -> None:
        for pod in self._pods(instance_id):
            self._kubelet.fail(pod["metadata"]["name"])

    async def finish(self, instance_id: str) -> None:
        for pod in self._pods(instance_id):
            if pod["metadata"].get("deletionTimestamp"):
                self._kubelet.finish(pod["metadata"]["name"])

    # ---- how it goes wrong ---------------------------------------------------------------------

    async def keep(self, instance_id: str, why: str) -> None:
        guarded = {names.INSTANCE: names.label_value(instance_id)}
        self._kube.create(things.budget("guard", guarded, minAvailable=1))
        self._kube.until(
            lambda: (
                self._kube.get("policy/v1", "poddisruptionbudgets", "guard")
                .get("status", {})
                .get("observedGeneration")
            )
        )

    async def expire(self) -> None:
        assert self._kube.server
        self._kube.server.expire()

    async def outage(self) -> None:
        assert self._kube.server
        self._kube.server.fault(Fault(Wrong.CUT))

    async def recover(self) -> None:
        assert self._kube.server
        self._kube.server.heal()

    async def lose_next_answer(self, call: str) -> None:
        assert self._kube.server
        method, path = self.loses
        self._kube.server.fault(Fault(Wrong.LOST, path=path, method=method, times=1))


class Scaled(Played):
    """The same by an object that is scaled."""

    kind = "Deployment"
    loses = ("PATCH", "/scale")

    def __init__(self, kube: Kube) -> None:
        super().__init__(kube)
        self.lacks = {**self.lacks, "several_ranks": f"one replica of a {self.kind} is one pod"}

    def body(self, role: str) -> Json:
        marks = {"app": f"chat-{role}"}
        pods = {
            "metadata": {"labels": marks},
            "spec": {**POD["spec"], "nodeSelector": {TYPE: "H20"}},
        }
        spec = {"selector": {"matchLabels": marks}, "template": pods}
        return {
            "object": {"apiVersion": "apps/v1", "kind": self.kind, "spec": spec},
            "pin": "required",
        }

    async def fail(self, instance_id: str) -> None:
        """Evict it: so a pod that is started again ends for good. Its node takes no other meanwhile."""
        for pod in self._pods(instance_id):
            node = pod["spec"]["nodeName"]
            effect = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
            self._kube.patch(
                "v1", "nodes", node, {"status": {"conditions": [PRESSED]}},
                sub="status", kind="strategic",
            )  # fmt: skip
            self._kube.patch("v1", "nodes", node, {"spec": {"taints": [effect]}})
            self._kubelet.fail(pod["metadata"]["name"], reason="Evicted")


@pytest.fixture(autouse=True)
def alone(kube: Kube, request: pytest.FixtureRequest) -> None:
    """See the module."""
    if kube.server is None and hasattr(request.config, "workerinput"):
        pytest.skip("nodes of fixed names in a cluster that is shared: run it with -n 0")


@pytest.fixture
async def played(kube: Kube) -> AsyncIterator[Cluster]:
    one = Played(kube)
    yield one
    await one.close()


@pytest.fixture
async def scaled(kube: Kube) -> AsyncIterator[Cluster]:
    one = Scaled(kube)
    yield one
    await one.close()


class TestKubernetesPods(PortContract):
    @pytest.fixture
    def cluster(self, played: Cluster) -> Cluster:
        return played


class TestKubernetesDeployments(PortContract):
    @pytest.fixture
    def cluster(self, scaled: Cluster) -> Cluster:
        return scaled
