"""The inbox of the loop: everything in order, of each agent's reports only the newest.

All callers live on one event loop. Reports never wait and never pile up, for a newer one takes the
place of an older; everything else is kept in order and bounded, and ``put`` waits for room, so that
a flood pushes back through the stream to its sender instead of filling our memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    Event,
    InventoryLearned,
    ReportReceived,
)
from heteroscale_coordinator.core.model import EngineSample, LatencySample

CAPACITY = 20_000


@dataclass(slots=True)
class Letter:
    """An event and what to call once its turn is committed (or it was given up)."""

    event: Event
    done: Callable[[], None] | None = None


class Mailbox:
    """See the module. ``capacity`` bounds everything but reports, of which there is one an agent."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._letters: deque[Letter] = deque()
        self._pending: dict[str, Letter] = {}
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.coalesced = 0
        """Reports that a newer one replaced before the loop saw them, since last asked."""

    def __len__(self) -> int:
        return len(self._letters)

    def report(self, event: ReportReceived) -> None:
        """Take a report in at once; it replaces an older one of its agent that still waits."""
        waiting = self._pending.get(event.agent_id)
        if waiting is not None and isinstance(older := waiting.event, ReportReceived):
            self.coalesced += 1
            if (event.incarnation, event.sequence) > (older.incarnation, older.sequence):
                waiting.event = _joined(older, event)
            return
        letter = self._pending[event.agent_id] = Letter(event)
        self._letters.append(letter)
        self._arrived.set()

    def put_now(self, event: Event, done: Callable[[], None] | None = None) -> None:
        """Take an event in at once, room or no room: for the few that must never wait."""
        if isinstance(event, AgentConnected | AgentDisconnected | InventoryLearned):
            # What is reported after this belongs after it, and must not take an earlier place.
            self._pending.pop(event.agent_id, None)
        self._letters.append(Letter(event, done))
        self._arrived.set()
        if self._others >= self._capacity:
            self._room.clear()

    async def put(self, event: Event, done: Callable[[], None] | None = None) -> None:
        """Take an event in, waiting for room."""
        while not self._room.is_set():
            await self._room.wait()
        self.put_now(event, done)

    async def take(self, wait: float, limit: int = CAPACITY) -> list[Letter]:
        """Return up to ``limit`` letters in order; none when none has come after ``wait`` seconds."""
        if not self._letters and wait > 0:
            try:
                async with asyncio.timeout(wait):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        taken = [self._letters.popleft() for _ in range(min(limit, len(self._letters)))]
        for letter in taken:
            event = letter.event
            if isinstance(event, ReportReceived) and self._pending.get(event.agent_id) is letter:
                del self._pending[event.agent_id]
        if not self._letters:
            self._arrived.clear()
        if self._others < self._capacity:
            self._room.set()
        return taken

    def take_coalesced(self) -> int:
        """Return how many reports a newer one replaced since the last call."""
        count, self.coalesced = self.coalesced, 0
        return count

    @property
    def _others(self) -> int:
        return len(self._letters) - len(self._pending)


def _joined(older: ReportReceived, newer: ReportReceived) -> ReportReceived:
    """Return ``newer`` with the older's bucket deltas added, for those alone are not cumulative."""
    before = {engine.instance_id: engine for engine in older.engines}
    engines = tuple(_with_deltas(before.get(e.instance_id), e) for e in newer.engines)
    return replace(newer, engines=engines, received_at=older.received_at)


def _with_deltas(older: EngineSample | None, newer: EngineSample) -> EngineSample:
    if older is None:
        return newer
    return newer._replace(ttft=_added(older.ttft, newer.ttft), tbt=_added(older.tbt, newer.tbt))


def _added(older: LatencySample | None, newer: LatencySample | None) -> LatencySample | None:
    if older is None or newer is None or not older.bucket_deltas:
        return newer
    width = max(len(older.bucket_deltas), len(newer.bucket_deltas))
    first = older.bucket_deltas + (0,) * (width - len(older.bucket_deltas))
    second = newer.bucket_deltas + (0,) * (width - len(newer.bucket_deltas))
    return newer._replace(bucket_deltas=tuple(map(sum, zip(first, second, strict=True))))
