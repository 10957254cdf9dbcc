"""Keeps a picture of all objects of one kind: list, then watch, anew where the server forgot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import structlog

from heteroscale_coordinator.edge.cluster_api import (
    Address,
    ApiError,
    ClusterApi,
    ExpiredError,
    Object,
)

log = structlog.get_logger("heteroscale.objects")

FIRST_WAIT_S, LAST_WAIT_S = 0.5, 30.0


class Reflection:
    """The picture, and ``changed``, set whenever it may have become different."""

    def __init__(
        self,
        api: ClusterApi,
        at: Address,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api, self._at, self._sleep = api, at, sleep
        self.objects: dict[tuple[str, str], Object] = {}
        """By namespace and name."""
        self.whole = False
        """Whether a list has ever been read: before, nothing is known to be absent."""
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the objects for ever."""
        wait, revision = FIRST_WAIT_S, ""
        while True:
            try:
                if not revision:
                    revision = await self._list()
                async with aclosing(self._api.watch(self._at, revision)) as news:  # type: ignore[type-var]
                    async for what, thing in news:
                        revision = self._take(what, thing) or revision
                        wait = FIRST_WAIT_S
            except ExpiredError:
                revision = ""
            except (ApiError, TimeoutError) as error:
                log.warning("objects", trouble=str(error), again_in=wait)
                await self._sleep(wait)
                wait = min(2 * wait, LAST_WAIT_S)
                continue
            # A server that ends each watch at once is not asked without a breath.
            await self._sleep(FIRST_WAIT_S)

    async def _list(self) -> str:
        found, revision = await self._api.list(self._at)
        self.objects = {_key(thing): thing for thing in found}
        self.whole = True
        self.changed.set()
        return revision

    def note(self, thing: Object) -> None:
        """Take in what a write of our own gave back, unless something newer is known."""
        known = self.objects.get(_key(thing))
        if known is not None and _uid(known) == _uid(thing) and _version(thing) > _version(known):
            self.objects[_key(thing)] = thing

    def _take(self, what: str, thing: Object) -> str:
        """Fold one event; return from where a watch goes on."""
        if what == "DELETED":
            self.objects.pop(_key(thing), None)
        elif what in ("ADDED", "MODIFIED"):
            self.objects[_key(thing)] = thing
        if what != "BOOKMARK":
            self.changed.set()
        return str((thing.get("metadata") or {}).get("resourceVersion") or "")


def _key(thing: Object) -> tuple[str, str]:
    meta = thing.get("metadata") or {}
    return str(meta.get("namespace") or ""), str(meta.get("name") or "")


def _version(thing: Object) -> int:
    """Return the resource version; of one kind they can be compared, once they are numbers."""
    text = str((thing.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def _uid(thing: Object) -> str:
    return str((thing.get("metadata") or {}).get("uid") or "")
