"""What the coordinator must hear, kept until it says so.

Events and results are never dropped while a stream lasts: they wait here, leave in order, and results
are forgotten by the journal only when their sequence is acknowledged. Reports coalesce: one slot, the
newest wins, window deltas of the unsent are added up. When a stream ends, nothing of it needs to be
kept: the next hello carries every instance's state and every unacknowledged result.
"""

from __future__ import annotations

import asyncio
from collections import deque

from heteroscale_agent.model import CommandResult, InstanceEvent, Report
from heteroscale_agent.sample import merge

Item = InstanceEvent | CommandResult | Report


class Outbox:
    """A queue between the rooms that have something to say and the one writer of the stream."""

    def __init__(self) -> None:
        self._urgent: deque[InstanceEvent | CommandResult] = deque()
        self._report: Report | None = None
        self._report_ready = False
        self._something = asyncio.Event()
        self._sent: deque[tuple[int, str]] = deque()

    def put(self, item: InstanceEvent | CommandResult) -> None:
        """Queue an event or a result."""
        self._urgent.append(item)
        self._something.set()

    def put_report(self, report: Report, *, ready: bool = True) -> None:
        """Keep a report in place of an unsent one; it leaves once one is ``ready``."""
        self._report = merge(self._report, report) if self._report else report
        self._report_ready = self._report_ready or ready
        if self._report_ready:
            self._something.set()

    def clear(self) -> None:
        """Forget everything: a hello is about to say it all."""
        self._urgent.clear()
        self._report, self._report_ready = None, False
        self._sent.clear()
        self._something.clear()

    @property
    def empty(self) -> bool:
        """Whether no event waits to be sent, and no result to be acknowledged."""
        return not self._urgent and not self._sent

    async def take(self) -> Item:
        """Wait for the next thing to send; events and results before reports."""
        while True:
            if self._urgent:
                return self._urgent.popleft()
            if self._report is not None and self._report_ready:
                report = self._report
                self._report, self._report_ready = None, False
                return report
            self._something.clear()
            await self._something.wait()

    def sent(self, sequence: int, item: Item) -> None:
        """Note under which sequence a result left."""
        if isinstance(item, CommandResult):
            self._sent.append((sequence, item.command_id))

    def acknowledged(self, sequence: int) -> list[str]:
        """Return the ids of results that are committed up to ``sequence``."""
        ids: list[str] = []
        while self._sent and self._sent[0][0] <= sequence:
            ids.append(self._sent.popleft()[1])
        return ids
