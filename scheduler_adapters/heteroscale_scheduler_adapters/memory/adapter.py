"""The adapter over a cluster in memory. It remembers nothing: another goes on where it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from heteroscale_scheduler_adapters.memory.cluster import MemoryCluster
from heteroscale_scheduler_adapters.memory.faults import Fault
from heteroscale_scheduler_adapters.port import (
    Capabilities,
    Change,
    GateWish,
    RefusedError,
    Step,
    World,
)

_R = TypeVar("_R")
_FINE = Fault()
ABLE = Capabilities(gates=True, watches=True, several_ranks=True, marks=True)


class MemoryAdapter:
    """See the module."""

    def __init__(self, cluster: MemoryCluster, capabilities: Capabilities = ABLE) -> None:
        self._cluster = cluster
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What this cluster can do."""
        return self._capabilities

    async def open(self) -> None:
        """Do nothing; there is nobody to connect to."""
        await self._call("open", "", lambda: None)

    async def close(self) -> None:
        """Do nothing."""

    async def world(self) -> World:
        """Return all that is there."""
        return await self._call("world", "", self._cluster.world)

    async def watch(self, revision: str) -> AsyncIterator[Change]:
        """Yield what changes after ``revision``."""
        while True:
            await self._call("watch", revision, lambda: None)
            for change in self._cluster.since(revision):
                revision = change.revision
                yield change
            await self._cluster.changed(revision)

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing."""
        if not self._capabilities.several_ranks and any(len(o.ranks) > 1 for o in step.launches):
            raise RefusedError("instances of several ranks cannot be launched here")
        await self._call("launch", step.request_id, lambda: self._cluster.launch(step))

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away."""
        await self._call("gate", instance_id, lambda: self._cluster.gate(instance_id, wish))

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance."""
        await self._call("stop", instance_id, lambda: self._cluster.stop(instance_id, grace))

    async def mark(self, node: str, reason: str) -> None:
        """Close a node for a reason of ours, or undo that."""
        await self._call("mark", node, lambda: self._cluster.mark(node, reason))

    async def _call(self, name: str, about: str, work: Callable[[], _R]) -> _R:
        self._cluster.calls.append(f"{name} {about}".strip())
        fault = self._cluster.faults.get(name) or self._cluster.faults.get("*") or _FINE
        if fault.over:
            fault = _FINE
        fault.spend()
        await fault.before()
        result = work()
        await fault.after()
        return result
