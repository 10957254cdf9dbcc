"""List and watch of one kind of objects, as the API server means it.

A watch goes on from the revision of a list, or of the last event or bookmark. Cut, timed out or
stalled, it is resumed from there; nothing is lost. Told that the revision is no longer kept (410, as
an answer or as an event), it ends with GoneError: everything has to be listed anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from heteroscale_scheduler_adapters.kubernetes.client import Client, Listing
from heteroscale_scheduler_adapters.kubernetes.errors import GONE, Ask, fault
from heteroscale_scheduler_adapters.kubernetes.objects import part, revision, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object, Resource
from heteroscale_scheduler_adapters.kubernetes.settings import RequestSettings
from heteroscale_scheduler_adapters.port import UnavailableError

HOLD = 290.0
"""Seconds that a server is asked to keep a watch open; then it is opened anew."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0

Pause = Callable[[float], Awaitable[None]]
Kind = Literal["put", "drop", "mark"]


@dataclass(frozen=True, slots=True)
class Source:
    """What is listed and watched."""

    resource: Resource
    namespace: str = ""
    """Empty: all."""
    labels: str = ""
    fields: str = ""

    def __str__(self) -> str:
        """Return it as a key: the same for equal sources, different for different ones."""
        kind = self.resource.rbac
        return "?".join((f"{kind}@{self.namespace}", self.labels, self.fields)).rstrip("?")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``mark`` (a bookmark) brings no object, only a revision."""

    kind: Kind
    thing: Object
    revision: str


_KINDS: dict[str, Kind] = {"ADDED": "put", "MODIFIED": "put", "DELETED": "drop", "BOOKMARK": "mark"}


class Watcher:
    """Lists and watches one source."""

    def __init__(
        self,
        client: Client,
        source: Source,
        settings: RequestSettings,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._client = client
        self._source = source
        self._settings = settings
        self._pause = pause

    async def list(self) -> Listing:
        """Return all objects, in pages read to their end."""
        one = self._source
        return await self._client.list(
            one.resource, one.namespace, labels=one.labels, fields=one.fields
        )

    async def events(self, since: str) -> AsyncGenerator[Event]:
        """Yield what happens after the revision ``since``, without end.

        Raises:
            GoneError: the revision is no longer kept.
            UnavailableError: it could not be resumed for longer than ``lost``.
            ForbiddenError: watching is not allowed.

        """
        loop = asyncio.get_running_loop()
        broken: float | None = None
        pause = 0.0
        while True:
            began, asked = loop.time(), 0.0
            try:
                async with aclosing(self._once(since)) as events:
                    async for event in events:
                        since, broken, pause = event.revision, None, 0.0
                        yield event
                broken = None  # closed in due time
            except UnavailableError as error:
                broken = loop.time() if broken is None else broken
                if loop.time() - broken >= self._settings.lost:
                    raise
                asked = error.retry_after
            if loop.time() - began > LONGEST_PAUSE:
                pause = 0.0
            # A server that closes at once is not to be asked again at once.
            pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
            await self._pause(max(pause, asked))

    async def _once(self, since: str) -> AsyncGenerator[Event]:
        """Yield the events of one connection; cut or stalled, it raises UnavailableError."""
        one = self._source
        ask = Ask("watch", one.resource.rbac, "", one.namespace)
        try:
            async with self._client.stream(
                one.resource,
                one.namespace,
                revision=since,
                labels=one.labels,
                fields=one.fields,
                seconds=HOLD,
            ) as lines:
                async for line in lines:
                    yield _event(ask, line)
        except TimeoutError as error:
            raise UnavailableError(
                f"{ask}: nothing was said for {self._settings.stall:g} s"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"{ask}: broke off: {error or type(error).__name__}") from error


def _event(ask: Ask, line: bytes) -> Event:
    """Read one line. Raises ValueError where it is torn or no event, else what an ERROR event means."""
    said: Any = json.loads(line)
    thing, told = part(said, "object"), text(said, "type")
    if told == "ERROR":
        code = thing.get("code")
        status = code if isinstance(code, int) else 0
        error = fault(ask, status, json.dumps(thing))
        if status == GONE or isinstance(error, UnavailableError):
            raise error
        raise UnavailableError(str(error))
    if told not in _KINDS or not revision(thing):
        raise ValueError(f"no event: {line[:100]!r}")
    return Event(_KINDS[told], thing, revision(thing))
