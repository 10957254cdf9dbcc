"""What the coordinator must hear: in order, never lost while a stream lasts; reports coalesce."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import InstanceState, Outcome, Role, ScrapeQuality
from heteroscale_agent.model import (
    CommandResult,
    EngineReport,
    InstanceEvent,
    InstanceStatus,
    LatencyCounters,
    Report,
)
from heteroscale_agent.outbox import Outbox

STATUS = InstanceStatus("i-1", "chat", Role.DECODE, InstanceState.IN_SERVICE, 3)


def result(name: str) -> CommandResult:
    return CommandResult(name, Outcome.DONE)


def report(at: float, *deltas: int) -> Report:
    latency = LatencyCounters(at, at, deltas)
    engine = EngineReport("i-1", ScrapeQuality.OK, 0.0, at, time_between_tokens=latency)
    return Report(at, 1.0, engines=(engine,))


async def test_events_and_results_leave_in_order_and_before_reports() -> None:
    outbox = Outbox()
    items: list[InstanceEvent | CommandResult] = [
        InstanceEvent(STATUS, "a"),
        result("c-1"),
        InstanceEvent(STATUS, "b"),
    ]
    outbox.put_report(report(1.0))
    for item in items:
        outbox.put(item)
    assert [await outbox.take() for _ in items] == items
    assert await outbox.take() == report(1.0)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6))
async def test_reports_that_wait_become_one_and_lose_nothing(deltas: list[list[int]]) -> None:
    outbox = Outbox()
    for at, row in enumerate(deltas):
        outbox.put_report(report(float(at), *row))
    one = await outbox.take()
    assert isinstance(one, Report)
    assert one.interval == len(deltas)
    (engine,) = one.engines
    assert engine.generation_tokens == len(deltas) - 1
    assert engine.time_between_tokens is not None
    assert sum(engine.time_between_tokens.bucket_deltas) == sum(map(sum, deltas))


async def test_a_report_leaves_when_one_is_ready() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.take())
    outbox.put_report(report(1.0, 1), ready=False)
    done, _ = await asyncio.wait([waiting], timeout=0)
    assert not done
    outbox.put_report(report(2.0, 1))
    assert await waiting == Report(2.0, 2.0, engines=report(2.0, 2).engines)
    # The next one is on its own.
    outbox.put_report(report(3.0, 5))
    assert await outbox.take() == report(3.0, 5)


async def test_results_are_forgotten_only_when_their_sequence_is_acknowledged() -> None:
    outbox = Outbox()
    outbox.sent(11, result("c-1"))
    outbox.sent(12, InstanceEvent(STATUS))
    outbox.sent(13, result("c-2"))
    outbox.sent(14, report(1.0))
    assert outbox.acknowledged(10) == []
    assert outbox.acknowledged(12) == ["c-1"]
    assert outbox.acknowledged(12) == []
    assert outbox.acknowledged(99) == ["c-2"]


async def test_a_new_stream_begins_with_nothing_in_the_box() -> None:
    outbox = Outbox()
    outbox.put(result("c-1"))
    outbox.put_report(report(1.0, 3))
    outbox.sent(5, result("c-0"))
    outbox.clear()
    assert outbox.acknowledged(99) == []
    waiting = asyncio.create_task(outbox.take())
    done, _ = await asyncio.wait([waiting], timeout=0)
    assert not done
    outbox.put_report(report(2.0, 1))
    assert await waiting == report(2.0, 1)


async def test_taking_waits_for_something() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.take())
    await asyncio.wait([waiting], timeout=0)
    outbox.put(result("c-1"))
    assert await waiting == result("c-1")
