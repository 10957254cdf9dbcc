"""The inbox: order, coalescing, back-pressure."""

from __future__ import annotations

import asyncio

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    Event,
    InventoryLearned,
    ReportReceived,
    Tick,
)
from heteroscale_coordinator.core.model import EngineSample, Inventory, LatencySample
from heteroscale_coordinator.edge.mailbox import Mailbox


def report(sequence: int, agent_id: str = "a", incarnation: int = 1) -> ReportReceived:
    return ReportReceived(agent_id, incarnation, sequence)


async def events(mailbox: Mailbox, limit: int = 100) -> list[Event]:
    return [letter.event for letter in await mailbox.take(0.0, limit)]


async def test_only_the_newest_report_of_an_agent_waits_and_others_keep_their_order() -> None:
    mailbox = Mailbox()
    hello = AgentConnected("b", 1, "h")
    mailbox.report(report(1))
    mailbox.put_now(hello)
    mailbox.report(report(7, "b"))
    mailbox.report(report(3))
    mailbox.report(report(2))
    assert await events(mailbox) == [report(3), hello, report(7, "b")]
    assert mailbox.coalesced == 2


async def test_a_report_never_overtakes_the_hello_it_belongs_to() -> None:
    mailbox = Mailbox()
    hello = AgentConnected("a", 2, "h")
    gone = AgentDisconnected("a", 1)
    mailbox.report(report(9))
    mailbox.put_now(gone)
    mailbox.put_now(hello)
    mailbox.report(report(1, incarnation=2))
    assert await events(mailbox) == [report(9), gone, hello, report(1, incarnation=2)]


async def test_a_report_never_overtakes_the_inventory_whose_order_it_is_in() -> None:
    mailbox = Mailbox()
    learned = InventoryLearned("a", Inventory("new"))
    mailbox.report(report(1))
    mailbox.put_now(learned)
    mailbox.report(report(2))
    assert await events(mailbox) == [report(1), learned, report(2)]


async def test_what_comes_after_a_take_waits_for_the_next() -> None:
    mailbox = Mailbox()
    for sequence in range(5):
        mailbox.report(report(sequence, f"a{sequence}"))
    assert len(await mailbox.take(0.0, 2)) == 2
    mailbox.report(report(9, "a0"))
    mailbox.report(report(9, "a4"))
    left = await events(mailbox)
    assert [(e.agent_id, e.sequence) for e in left if isinstance(e, ReportReceived)] == [
        ("a2", 2),
        ("a3", 3),
        ("a4", 9),
        ("a0", 9),
    ]


async def test_window_deltas_of_a_replaced_report_are_added_to_the_newer() -> None:
    def engine(deltas: tuple[int, ...], total: float) -> EngineSample:
        latency = LatencySample(total, total, deltas)
        return EngineSample("i-1", ScrapeQuality.OK, 1.0, ttft=latency, tbt=None)

    mailbox = Mailbox()
    mailbox.report(ReportReceived("a", 1, 1, (engine((1, 2, 3), 6.0),), received_at=7.0))
    mailbox.report(ReportReceived("a", 1, 2, (engine((4,), 10.0),), received_at=8.0))
    (only,) = await events(mailbox)
    assert isinstance(only, ReportReceived)
    assert (only.sequence, only.received_at) == (2, 7.0), "the first has waited longest"
    assert only.engines[0].ttft == LatencySample(10.0, 10.0, (5, 2, 3))


async def test_a_full_inbox_makes_senders_wait_but_never_reports() -> None:
    mailbox = Mailbox(capacity=2)
    await mailbox.put(Tick())
    await mailbox.put(Tick())
    third = asyncio.create_task(mailbox.put(Tick()))
    await asyncio.sleep(0)
    assert not third.done()
    mailbox.report(report(1))
    assert len(mailbox) == 3
    assert len(await mailbox.take(0.0, 1)) == 1
    await third
    assert len(await mailbox.take(0.0)) == 3


async def test_take_waits_for_the_first_letter_and_gives_up_in_time() -> None:
    mailbox = Mailbox()
    assert await mailbox.take(0.001) == []
    taking = asyncio.create_task(mailbox.take(10.0))
    await asyncio.sleep(0)
    mailbox.put_now(Tick())
    assert [letter.event for letter in await taking] == [Tick()]
