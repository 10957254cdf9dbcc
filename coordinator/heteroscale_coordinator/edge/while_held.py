"""Calls that act only while we lead: also one that is under way ends where it is once the lease is lost.

A process that was stopped and goes on wakes up in the middle of a call. So each piece of it, from one
wait to the next, is preceded by a look at our own clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from heteroscale_coordinator.edge.cluster_api import Address, ApiError, ClusterApi, Object

_R = TypeVar("_R")
Held = Callable[[], bool]
LOST = "this coordinator does not hold the lease any more"


class WhileHeld(Generic[_R]):
    """Awaits a call; lost meanwhile, it is cancelled where it waits, and ``error`` is raised."""

    def __init__(self, call: Coroutine[Any, Any, _R], held: Held, error: type[Exception]) -> None:
        self._call, self._held, self._error = call, held, error

    def __await__(self) -> Generator[Any, Any, _R]:
        """Give the call's result, or raise what it raises."""
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
                    raise self._error(LOST) from None
                raise
            try:
                yield waits
            except BaseException as error:  # noqa: BLE001 - it is the call's
                go_on = partial(self._call.throw, error)
            else:
                go_on = partial(self._call.send, None)


class LeasedApi:
    """The API server as who leads may use it: others read, and change nothing."""

    def __init__(self, inner: ClusterApi, held: Held) -> None:
        self._inner, self._held = inner, held

    async def get(self, at: Address) -> Object:
        """Return one object."""
        return await self._inner.get(at)

    async def list(self, at: Address) -> tuple[list[Object], str]:
        """Return all objects of a kind, and the revision to watch from."""
        return await self._inner.list(at)

    def watch(self, at: Address, revision: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield what changes."""
        return self._inner.watch(at, revision)

    async def create(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Create an object."""
        return await WhileHeld(self._inner.create(at, thing), self._held, ApiError)

    async def replace(self, at: Address, thing: Mapping[str, Any]) -> Object:
        """Write an object whole."""
        return await WhileHeld(self._inner.replace(at, thing), self._held, ApiError)

    async def patch(self, at: Address, change: Mapping[str, Any]) -> Object:
        """Lay a merge patch over it."""
        return await WhileHeld(self._inner.patch(at, change), self._held, ApiError)
