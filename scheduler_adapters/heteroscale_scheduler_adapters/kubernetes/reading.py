"""The reading half of the adapter: the world as all lists tell it, and its changes as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from heteroscale_scheduler_adapters.kubernetes.client import Client, Listing
from heteroscale_scheduler_adapters.kubernetes.errors import GoneError
from heteroscale_scheduler_adapters.kubernetes.mirror import Clock, Mirror
from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings
from heteroscale_scheduler_adapters.kubernetes.watch import Event, Source, Watcher
from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Change,
    ExpiredError,
    UnavailableError,
)

MOST = 1000
"""Events folded into one change, and as many again that wait for it."""
KEPT = 2
"""States that are kept to go on from: of the last world, and of the last watch."""
Told = tuple[Source, Event]


class Reader:
    """Reads one cluster. It keeps what the last world and the last watch left, to go on from there."""

    def __init__(
        self,
        client: Client,
        settings: KubernetesSettings,
        cluster: str,
        sources: Sequence[Source],
        *,
        clock: Clock,
        handed: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._handed = handed
        self._watchers = {one: Watcher(client, one, settings.requests) for one in sources}
        self._kept: dict[str, Mirror] = {}
        """By revision: what nobody follows now."""

    async def world(self) -> Mirror:
        """Return all that is there. Raises UnavailableError if any of the lists cannot be read whole."""
        lists = await self._lists()
        mirror = Mirror(self._settings, self._cluster, self._clock, self._handed)
        for source, listing in lists.items():
            for thing in listing.items:
                mirror.put(source.resource, thing)
            mirror.revisions[str(source)] = listing.revision
        mirror.fold()
        self._kept = {revision_of(mirror): mirror}
        return mirror

    async def _lists(self) -> dict[Source, Listing]:
        tasks = {
            source: asyncio.ensure_future(watcher.list())
            for source, watcher in self._watchers.items()
        }
        try:
            found = await asyncio.gather(*tasks.values())
        except UnavailableError:
            raise
        except AdapterError as error:
            # A list that is refused is a part that is missing: nothing is known of the whole.
            raise UnavailableError(str(error)) from error
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return dict(zip(tasks, found, strict=True))

    async def watch(self, revision: str) -> AsyncGenerator[tuple[Mirror, Change]]:
        """Yield changes after ``revision``, each with the mirror that has them folded in."""
        mirror = self._kept.pop(revision, None)
        if mirror is None:
            raise ExpiredError(f"{self._cluster}: nothing is kept of this revision")
        try:
            async with self._following(mirror) as queue:
                while True:
                    events, error = await _batch(queue)
                    if events:
                        yield mirror, _folded(mirror, events)
                    if error is not None:
                        raise error
        except GoneError as error:
            raise ExpiredError(str(error)) from error
        except UnavailableError:
            raise
        except AdapterError as error:
            raise UnavailableError(str(error)) from error
        finally:
            # Whoever asks for the last revision that was told goes on from here.
            self._kept = {revision_of(mirror): mirror, **self._kept}
            while len(self._kept) > KEPT:
                self._kept.popitem()

    @asynccontextmanager
    async def _following(self, mirror: Mirror) -> AsyncIterator[asyncio.Queue[Told | AdapterError]]:
        queue: asyncio.Queue[Told | AdapterError] = asyncio.Queue(MOST)
        tasks = [
            asyncio.ensure_future(_follow(source, watcher, mirror.revisions[str(source)], queue))
            for source, watcher in self._watchers.items()
        ]
        try:
            yield queue
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(
    source: Source, watcher: Watcher, since: str, queue: asyncio.Queue[Told | AdapterError]
) -> None:
    try:
        async with aclosing(watcher.events(since)) as events:
            async for event in events:
                await queue.put((source, event))
    except AdapterError as error:
        await queue.put(error)


async def _batch(
    queue: asyncio.Queue[Told | AdapterError],
) -> tuple[list[Told], AdapterError | None]:
    """Return what has come, so that a burst is one change, and the error that came after it."""
    events: list[Told] = []
    told = await queue.get()
    while not isinstance(told, AdapterError):
        events.append(told)
        if queue.empty() or len(events) >= MOST:
            return events, None
        told = queue.get_nowait()
    return events, told


def _folded(mirror: Mirror, events: Sequence[Told]) -> Change:
    for source, event in events:
        if event.kind == "put":
            mirror.put(source.resource, event.thing)
        elif event.kind == "drop":
            mirror.drop(source.resource, event.thing)
        mirror.revisions[str(source)] = event.revision
    noted = mirror.notes_touched
    nodes, running = mirror.fold()
    notes = mirror.node_notes() if noted else None
    return Change(revision_of(mirror), nodes, running, notes)


def revision_of(mirror: Mirror) -> str:
    """Return the revisions of all sources as one text."""
    return json.dumps(mirror.revisions, sort_keys=True, separators=(",", ":"))
