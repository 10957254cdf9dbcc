"""An adapter that acts only while we lead: also a call under way ends where it is once the lease is lost.

A process that was stopped and goes on wakes up in the middle of a launch. So each piece of a call, from
one wait to the next, is preceded by a look at our own clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from heteroscale_scheduler_adapters.port import (
    Adapter,
    Capabilities,
    Change,
    GateWish,
    Step,
    UnavailableError,
    World,
)

_R = TypeVar("_R")
Held = Callable[[], bool]
LOST = "this coordinator does not hold the lease any more"


class LeasedAdapter:
    """Another adapter's calls, each of them only while ``held``. Whoever leads next goes on with them."""

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
        return await _WhileHeld(self._inner.world(), self._held)

    def watch(self, revision: str) -> AsyncIterator[Change]:
        """Yield what changes; only reads."""
        return self._inner.watch(revision)

    async def launch(self, step: Step) -> None:
        """Start all of ``step``, or nothing."""
        await _WhileHeld(self._inner.launch(step), self._held)

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Let traffic reach an instance, or keep it away."""
        await _WhileHeld(self._inner.gate(instance_id, wish), self._held)

    async def stop(self, instance_id: str, grace: float) -> None:
        """End an instance."""
        await _WhileHeld(self._inner.stop(instance_id, grace), self._held)


class _WhileHeld(Generic[_R]):
    """Awaits a call; lost meanwhile, it is cancelled where it waits, and UnavailableError is raised."""

    def __init__(self, call: Coroutine[Any, Any, _R], held: Held) -> None:
        self._call, self._held = call, held

    def __await__(self) -> Generator[Any, Any, _R]:
        lost = False
        go_on: Callable[[], Any] = partial(self._call.send, None)
        while True:
            if not lost and not self._held():
                lost = True
                go_on = partial(self._call.throw, asyncio.CancelledError())
            try:
                waits = go_on()
            except StopIteration as done:
                result: _R = done.value
                return result
            except asyncio.CancelledError:
                if lost:
                    raise UnavailableError(LOST) from None
                raise
            try:
                yield waits
            except BaseException as error:  # noqa: BLE001 - it is the call's
                go_on = partial(self._call.throw, error)
            else:
                go_on = partial(self._call.send, None)
