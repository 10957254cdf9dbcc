"""An adapter that acts only while we lead; whoever leads next goes on with what was begun."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from heteroscale_coordinator.edge.while_held import Held, WhileHeld
from heteroscale_scheduler_adapters.port import (
    Adapter,
    Capabilities,
    Change,
    GateWish,
    Step,
    UnavailableError,
    World,
)


class LeasedAdapter:
    """Another adapter's calls, each of them only while ``held``, else UnavailableError."""

    def __init__(self, inner: Adapter, held: Held) -> None:
        self._inner, self._held = inner, held

    @property
    def capabilities(self) -> Capabilities:
        """What the cluster can do."""
        return self._inner.capabilities

    async def open(self) -> None:
        """Connect; changes nothing."""
        await self._inner.open()

    async def close(self) -> None:
        """Let go of connections; changes nothing."""
        await self._inner.close()

    async def world(self) -> World:
        """Return all that is there. What was begun may be gone on with, so it is for who leads."""
        return await WhileHeld(self._inner.world(), self._held, UnavailableError)

    async def watch(self, revision: str) -> AsyncGenerator[Change]:
        """Yield what changes. What was begun may be gone on with here too."""
        changes = self._inner.watch(revision)
        try:
            while change := await WhileHeld(_next(changes), self._held, UnavailableError):
                yield change
        finally:
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing."""
        await WhileHeld(self._inner.launch(step), self._held, UnavailableError)

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away."""
        await WhileHeld(self._inner.gate(instance_id, wish), self._held, UnavailableError)

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance."""
        await WhileHeld(self._inner.stop(instance_id, grace), self._held, UnavailableError)


async def _next(changes: AsyncIterator[Change]) -> Change | None:
    return await anext(changes, None)
