"""The turn by hand: ticks, poison, held events, the clock, the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from heteroscale.words import WITHIN, InstanceState, Role
from heteroscale_coordinator.clock import SteadyClock, mint
from heteroscale_coordinator.core.asked import Question
from heteroscale_coordinator.core.breaker import NOTHING_BARRED
from heteroscale_coordinator.core.events import (
    AgentConnected,
    AgentDisconnected,
    Answer,
    Changes,
    Effect,
    Event,
    InventoryLearned,
    PauseService,
    ReportReceived,
    Tick,
)
from heteroscale_coordinator.core.model import Action, RankFact, Verdict
from heteroscale_coordinator.core.placement import Ask, ClassChange, Request
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from heteroscale_coordinator.core.topology import SubgroupClass
from heteroscale_coordinator.edge.answers import LoopUnavailableError
from heteroscale_coordinator.edge.feed import Feed, FeedLaggedError
from heteroscale_coordinator.edge.memory import Freezer
from heteroscale_coordinator.edge.store.memory import Backing, MemoryStore
from heteroscale_coordinator.edge.store.port import StoreError
from heteroscale_coordinator.loop import CLASSES_SAID, SPREAD, Loop, Pace
from tests.coordinator import values
from tests.coordinator.face import FAST, START, Clock, Script, no_renewals
from tests.core.placement.fleets import node


def make(
    script: Script | None = None,
    store: MemoryStore | None = None,
    *,
    clock: Callable[[], float] | None = None,
    pace: Pace = FAST,
    rules: Rules | None = None,
) -> tuple[Loop, Script, Clock]:
    script, store = script or Script(), store or MemoryStore()
    ticking = Clock()
    snapshot = store.load()
    loop = Loop(
        store=store,
        snapshot=snapshot,
        state=State(rules=rules or Rules()),
        step=script,
        renewals=no_renewals,
        clock=clock or ticking,
        pace=pace,
    )
    return loop, script, ticking


class Poison(AgentDisconnected):
    """An event on which the step raises."""


def allergic(_state: State, events: Sequence[Event], _now: float) -> Changes:
    if any(isinstance(event, Poison) for event in events):
        raise ValueError("cannot digest this")
    effects: list[Effect] = [Answer(e.request_id) for e in events if isinstance(e, PauseService)]
    return Changes(effects=effects)


async def test_ticks_come_ten_times_in_a_tick_and_not_more() -> None:
    loop, script, clock = make()
    await loop.start()
    for _ in range(40):
        clock.now += loop.state.rules.tick / SPREAD / 4
        loop.mailbox.report(ReportReceived("a", 1, 1))
        await loop.turn()
    ticks = sum(isinstance(event, Tick) for turn in script.turns for event in turn)
    assert 10 <= ticks <= 11
    loop.close()


async def test_an_event_that_makes_the_step_raise_is_dropped_alone() -> None:
    loop, script, _ = make(Script(allergic))
    await loop.start()
    done: list[int] = []
    for number in range(20):
        poisonous = number == 13
        event = (Poison if poisonous else AgentDisconnected)(f"a{number}", 1)
        loop.mailbox.put_now(event, lambda number=number: done.append(number))  # type: ignore[misc]
    wish = asyncio.create_task(loop.submit(PauseService("r1", "chat", "")))
    await asyncio.sleep(0)
    await loop.turn()
    assert done == list(range(20)), "the dropped one is acknowledged too, or it would come for ever"
    seen = [event.agent_id for event in script.events if isinstance(event, AgentDisconnected)]
    assert seen == [f"a{n}" for n in range(20) if n != 13]
    assert (await wish).error == ""
    loop.close()


async def test_a_wish_that_makes_the_step_raise_is_refused_and_the_loop_goes_on() -> None:
    def raising(_state: State, events: Sequence[Event], _now: float) -> Changes:
        if any(isinstance(event, PauseService) for event in events):
            raise ZeroDivisionError("oh")
        return Changes()

    loop, _, _ = make(Script(raising))
    await loop.start()
    wish = asyncio.create_task(loop.submit(PauseService("r1", "chat", "")))
    await asyncio.sleep(0)
    await loop.turn()
    with pytest.raises(LoopUnavailableError, match="ZeroDivisionError"):
        await wish
    assert loop.status().not_ready == ()
    loop.close()


async def test_a_step_that_raises_on_every_tick_makes_the_loop_unready_until_it_works() -> None:
    broken = [True]

    def fold(_state: State, events: Sequence[Event], _now: float) -> Changes:
        if broken[0] and any(isinstance(event, Tick) for event in events):
            raise KeyError("tick")
        return Changes()

    loop, _, clock = make(Script(fold))
    await loop.start()
    clock.now += 1.0
    await loop.turn()
    assert "the step raises on Tick" in loop.status().not_ready[0]
    broken[0] = False
    clock.now += 1.0
    await loop.turn()
    assert loop.status().not_ready == ()
    loop.close()


async def test_while_the_store_fails_events_are_kept_in_order_and_reports_are_not() -> None:
    store = MemoryStore()
    seen: list[list[str]] = []

    def fold(_state: State, events: Sequence[Event], _now: float) -> Changes:
        seen.append([e.agent_id for e in events if isinstance(e, AgentDisconnected)])
        return Changes(services={"chat": values.service()})

    loop, script, _ = make(Script(fold), store)
    await loop.start()
    store.fail("commit", StoreError("disk full"), times=2)
    loop.mailbox.put_now(AgentDisconnected("first", 1))
    loop.mailbox.report(ReportReceived("r", 1, 1))
    await loop.turn()
    loop.mailbox.put_now(AgentDisconnected("second", 1))
    await loop.turn()
    await loop.turn()
    assert seen == [["first"], ["first", "second"], ["first", "second"]]
    assert sum(isinstance(event, ReportReceived) for event in script.events) == 1
    assert loop.state.services["chat"].name == "chat"
    loop.close()


async def test_nothing_is_committed_in_a_quiet_turn_but_for_a_heartbeat() -> None:
    backing = Backing()
    loop, _, clock = make(store=MemoryStore(backing))
    await loop.start()
    for _ in range(120):
        clock.now += 0.5
        await loop.turn()
    assert 2 <= backing.commits <= 3
    assert backing.kept.last_now >= START + 30.0
    loop.close()


async def test_inventories_of_agents_within_jobs_are_not_kept() -> None:
    store = MemoryStore()
    loop, _, _ = make(store=store)
    await loop.start()
    within = replace(values.inventory(), labels={WITHIN: "east/n0"})
    loop.mailbox.put_now(InventoryLearned("east.job-1-0", within))
    await loop.turn()
    assert store.backing.kept.inventories == {} == loop.inventories
    loop.close()


async def test_inventories_are_stored_once() -> None:
    store = MemoryStore()
    loop, _, _ = make(store=store)
    await loop.start()
    loop.mailbox.put_now(InventoryLearned("a", values.inventory()))
    await loop.turn()
    assert store.backing.kept.inventories == {"a": values.inventory()} == loop.inventories
    store.fail("save_inventories", StoreError("must not be asked"))
    loop.mailbox.put_now(InventoryLearned("a", values.inventory()))
    await loop.turn()
    assert loop.status().not_ready == ()
    loop.close()


async def test_a_wish_that_no_turn_takes_is_given_up() -> None:
    loop, _, _ = make(pace=Pace(wish_timeout=0.01))
    await loop.start()
    with pytest.raises(LoopUnavailableError, match="no turn answered"):
        await loop.submit(PauseService("r1", "chat", ""))
    loop.close()


async def test_wishes_that_wait_at_the_end_are_refused() -> None:
    loop, _, _ = make()
    await loop.start()
    wish = asyncio.create_task(loop.submit(PauseService("r1", "chat", "")))
    await asyncio.sleep(0)
    loop.close()
    with pytest.raises(LoopUnavailableError, match="stopping"):
        await wish
    with pytest.raises(LoopUnavailableError, match="stopping"):
        await loop.submit(PauseService("r2", "chat", ""))


async def test_the_clock_of_a_turn_never_goes_back() -> None:
    times: list[float] = []

    def fold(_state: State, _events: Sequence[Event], now: float) -> Changes:
        times.append(now)
        return Changes()

    store = MemoryStore()
    store.commit(Changes(), START + 500.0)
    loop, _, clock = make(Script(fold), store)
    await loop.start()
    for now in (START, START + 400.0, START + 600.0, START + 100.0):
        clock.now = now
        loop.mailbox.put_now(Tick())
        await loop.turn()
    assert times == [START + 500.0, START + 500.0, START + 600.0, START + 600.0]
    loop.close()


def test_a_step_of_the_wall_clock_moves_a_running_coordinator_not_at_all() -> None:
    wall, monotonic = Clock(1000.0), Clock(50.0)
    clock = SteadyClock(900.0, wall, monotonic)
    monotonic.now += 10.0
    wall.now -= 5000.0
    assert clock() == 1010.0
    wall.now += 99_999.0
    assert clock() == 1010.0
    behind = SteadyClock(2_000_000.0, wall, monotonic)
    monotonic.now += 1.0
    assert behind() == 2_000_001.0, "it goes on from the last commit instead of standing still"


def test_ids_are_unique_and_say_their_kind() -> None:
    ids = {mint("dec") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(one.startswith("dec-") for one in ids)


# ---- the feed ----------------------------------------------------------------------------------


async def test_a_subscriber_sees_what_is_published_after_it_subscribed() -> None:
    feed = Feed()
    feed.publish(Changes(), 1.0)
    subscription = feed.subscribe()
    feed.publish(Changes(), 2.0)
    feed.publish(Changes(), 3.0)
    feed.close()
    assert [now async for _, now in subscription] == [2.0, 3.0]


async def test_a_subscriber_that_is_too_slow_is_told_so_and_forgotten() -> None:
    feed = Feed(depth=2)
    slow, quick = feed.subscribe(), feed.subscribe()
    got: list[float] = []
    for now in range(5):
        feed.publish(Changes(), float(now))
        got.append((await anext(quick))[1])
    assert got == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [(await anext(slow))[1] for _ in range(2)] == [0.0, 1.0]
    with pytest.raises(FeedLaggedError):
        await anext(slow)


# ---- with the real step ------------------------------------------------------------------------


async def test_silence_that_could_not_be_committed_is_found_again() -> None:
    store = MemoryStore()
    loop, _, clock = make(store=store)
    loop._step = step
    await loop.start()
    fact = RankFact("i-1", "chat", Role.DECODE, InstanceState.IN_SERVICE, 3)
    loop.mailbox.put_now(AgentConnected("a", 1, "h", (fact,)))
    await loop.turn()

    async def turns(until: float) -> InstanceState:
        while clock.now < until:
            clock.now += 0.5
            await loop.turn()
        return loop.state.instances["i-1"].state

    assert await turns(START + 14.0) is InstanceState.IN_SERVICE
    store.fail("commit", StoreError("disk full"))
    assert await turns(START + 20.0) is InstanceState.IN_SERVICE
    store.heal()
    assert await turns(START + 21.0) is InstanceState.UNKNOWN
    store.fail("commit", StoreError("disk full"))
    loop.mailbox.report(ReportReceived("a", 1, 1))
    assert await turns(START + 22.0) is InstanceState.UNKNOWN
    store.heal()
    loop.mailbox.report(ReportReceived("a", 1, 2))
    assert await turns(START + 23.0) is InstanceState.IN_SERVICE
    loop.close()


async def test_changes_of_rdma_class_are_told_once_and_not_all_by_name() -> None:
    def changing(state: State, _events: Sequence[Event], now: float) -> Changes:
        state.seen.whole = True
        names, left = pods[: many[0]], pods[many[0] :]
        pods[:] = left
        low, high = SubgroupClass.LOW, SubgroupClass.HIGH
        state.seen.note(now, [ClassChange(name, low, high, ("a", "b")) for name in names])
        return Changes()

    pods, many = [f"pod-{number}" for number in range(CLASSES_SAID + 4)], [1]
    loop, _, _ = make(Script(changing))
    await loop.start()
    with capture_logs() as first:
        loop.mailbox.put_now(Tick())
        await loop.turn()
    (said,) = [line for line in first if line["event"] == "rdma class changed"]
    assert (said["domain"], said["before"], said["after"], said["nodes"]) == (
        *("pod-0", "low", "high"),
        2,
    )
    many[0] = len(pods)
    with capture_logs() as second:
        loop.mailbox.put_now(Tick())
        await loop.turn()
    named = [line["domain"] for line in second if line["event"] == "rdma class changed"]
    assert named == [f"pod-{number}" for number in range(1, CLASSES_SAID + 1)]
    assert [line["more"] for line in second if line["event"] == "rdma classes changed"] == [3]
    with capture_logs() as third:
        loop.mailbox.put_now(Tick())
        await loop.turn()
    assert not [line for line in third if "rdma" in line["event"]]
    loop.close()


# ---- a cycle of placement that takes several turns ----------------------------------------------


def in_pieces(pieces: int) -> Script:
    """Return a step with a cycle of so many pieces."""
    service = values.service()
    verdict = Verdict(Action.HOLD, "", "", service.memory, service.memory)
    asked = Request(Ask("chat", {}, {}))
    question = Question(
        service, service, frozenset(), verdict, values.decision(), asked, NOTHING_BARRED
    )
    left = iter(range(pieces - 1, -1, -1))

    def answer(state: State, _events: Sequence[Event], _now: float) -> Changes:
        state.asked.close()
        if next(left, 0):
            state.asked.ask(question)
        return Changes()

    return Script(answer)


async def test_a_cycle_goes_on_at_once_and_what_comes_meanwhile_is_in_its_next_turn() -> None:
    loop, script, _ = make(in_pieces(4))
    await loop.start()
    await loop.turn()
    placing = loop.state.placing
    report = ReportReceived("a", 1, 1)
    loop.mailbox.report(report)
    for _ in range(3):
        await loop.turn()
    assert [placing, loop.state.placing] == [True, False]
    first, *others = script.turns
    assert [type(event) for event in first] == [Tick]
    assert others == [[report], [], []]


async def test_a_cycle_that_raises_is_told_once_and_the_loop_goes_on() -> None:
    pieces = in_pieces(9)

    def fail(state: State, events: Sequence[Event], now: float) -> Changes:
        if not events:
            raise ValueError("no place")
        return pieces.answer(state, events, now)

    loop, _, _ = make(Script(fail))
    await loop.start()
    await loop.turn()
    with capture_logs() as logs:
        await loop.turn()
        await loop.turn()
    assert [line["event"] for line in logs] == ["turn dropped"]
    assert "no place" in loop.status().not_ready[0]


async def test_the_collector_leaves_a_fleet_alone_once_it_is_read_and_when_it_has_grown() -> None:
    frozen: list[int] = []
    state = State()
    look = Freezer(lambda: frozen.append(len(state.seen.view)))
    for nodes in (0, 1, 1, 10, 11, 12):
        for number in range(nodes):
            state.seen.view.put(node(f"n{number}", "H20"))
        look(state)
        state.seen.whole = True
    assert frozen == [1, 10, 12]
