"""The way of decisions into their record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from structlog.testing import capture_logs

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.edge.feed import DEPTH
from heteroscale_coordinator.edge.recorder import record_decisions
from heteroscale_coordinator.edge.store.decisions import DecisionLog
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, decision


async def test_what_is_committed_is_recorded_until_the_loop_stops() -> None:
    loop, log = TwinLoop(), DecisionLog(None)
    task = asyncio.create_task(record_decisions(loop, log))
    await asyncio.sleep(0)
    for n in range(5):
        loop.commit(Changes(decisions=[decision(f"d-{n}", Action.SCALE_OUT, NOW + n)]))
    loop.feed.close()
    await task
    assert [d.decision_id for d in log.newest()] == ["d-4", "d-3", "d-2", "d-1", "d-0"]


class HangingRecord:
    def __init__(self) -> None:
        self.free = threading.Event()
        self.taken: list[str] = []

    def record(self, decisions: Sequence[Decision]) -> None:
        assert self.free.wait(30)
        self.taken += [d.decision_id for d in decisions]


async def test_a_disk_that_hangs_costs_decisions_and_never_the_loop() -> None:
    loop, record = TwinLoop(), HangingRecord()
    task = asyncio.create_task(record_decisions(loop, record))
    await asyncio.sleep(0)
    with capture_logs() as said:
        for n in range(DEPTH + 2):
            loop.commit(Changes(decisions=[decision(f"d-{n}")]))
            await asyncio.sleep(0)
        record.free.set()
        while not said:  # noqa: ASYNC110 - a log line is no event to wait for
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.commit(Changes(decisions=[decision("after")]))
    loop.feed.close()
    await task
    assert [entry["event"] for entry in said] == ["decisions_lost"]
    assert record.taken[-1] == "after"
