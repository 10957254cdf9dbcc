"""The cluster in memory keeps the port's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from heteroscale_scheduler_adapters.memory import (
    LostAnswer,
    MemoryAdapter,
    MemoryCluster,
    Unavailable,
)
from heteroscale_scheduler_adapters.port import (
    Holding,
    Phase,
    Quota,
    Running,
    Spot,
    Taint,
    Template,
)
from tests.adapters.contract.harness import Cluster
from tests.adapters.contract.suite import PortContract


class Memory:
    """A harness over a cluster in memory: facts come at once."""

    service = "chat"
    templates: Mapping[str, str] = {"prefill": "chat-prefill", "decode": "chat-decode"}
    pace = 0.0
    lacks: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.inner = MemoryCluster("memory")
        self.inner.templates = tuple(Template(n, r, 1) for r, n in self.templates.items())

    async def adapter(self) -> MemoryAdapter:
        adapter = MemoryAdapter(self.inner)
        await adapter.open()
        return adapter

    async def add_node(
        self,
        name: str,
        gpus: int = 8,
        gpu_type: str = "H20",
        topology: Mapping[str, str] | None = None,
    ) -> None:
        self.inner.add_node(name, gpus, gpu_type, topology)

    async def remove_node(self, name: str) -> None:
        self.inner.kill_node(name)

    async def cordon(self, name: str, why: str) -> None:
        self.inner.put_node(replace(self.inner.nodes[name], closed=why))

    async def taint(self, name: str, key: str, value: str, effect: str) -> None:
        node = self.inner.nodes[name]
        self.inner.put_node(replace(node, taints=(Taint(key, value, effect),)))

    async def quota(self, gpu_type: str, limit: int) -> None:
        self.inner.quotas = (Quota(gpu_type, limit),)

    async def occupy(self, node: str, gpus: int) -> str:
        known = self.inner.nodes[node]
        self.inner.put_node(replace(known, holdings=(Holding("job/7 (alice)", gpus),)))
        return "job/7"

    async def others(self, role: str, node: str) -> str:
        ranks, origin = (Spot(node),), "deployment/llm/theirs"
        theirs = Running("x-1", self.service, role, Phase.READY, ranks, origin=origin)
        self.inner.put(theirs, gpus=1)
        return "x-1"

    async def start(self, instance_id: str) -> None:
        self.inner.become(instance_id, Phase.STARTING)

    async def ready(self, instance_id: str) -> None:
        self.inner.become(instance_id, Phase.READY)

    async def fail(self, instance_id: str) -> None:
        self.inner.become(instance_id, Phase.FAILED, "exit status 1")

    async def finish(self, instance_id: str) -> None:
        self.inner.become(instance_id, Phase.ENDED)

    async def keep(self, instance_id: str, why: str) -> None:
        self.inner.put(replace(self.inner.running[instance_id], kept=why))

    async def expire(self) -> None:
        self.inner.expire()

    async def outage(self) -> None:
        self.inner.faults["*"] = Unavailable()

    async def recover(self) -> None:
        del self.inner.faults["*"]

    async def lose_next_answer(self, call: str) -> None:
        self.inner.faults[call] = LostAnswer(times=1)


class TestMemory(PortContract):
    @pytest.fixture
    def cluster(self) -> Cluster:
        return Memory()
