"""A cycle of placement that takes several turns, in virtual time, and what comes between its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import placing, sites
from heteroscale_coordinator.core import step as turn
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    AgentDisconnected,
    ApplyService,
    Changes,
    DrainInstance,
    Event,
    PauseService,
    ReportReceived,
    Tick,
)
from heteroscale_coordinator.core.model import Action, Instance, Service
from heteroscale_coordinator.core.placement import Ask, Cycle, FleetView, Infeasible, Placed
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.state import State
from tests.core.turn.rig import SPEC, up
from tests.core.world import World

NAMES = ("a", "b", "c")


def spec(priority: int = 0) -> ServiceSpec:
    return SPEC.model_copy(update={"priority": priority})


def asking(agents: int = 6, priorities: Sequence[int] = (3, 2, 1)) -> World:
    """Return a world of nodes of four GPUs, one S1 each, where three services just asked for 1 P 2 D."""
    world = World()
    for index in range(agents):
        world.join(f"n{index}", {"s1": f"pod-{index}"}, ["H20"] * 4)
    for name, priority in zip(NAMES, priorities, strict=True):
        world.send(ApplyService(f"apply-{name}", name, spec(priority), ""))
    for _ in range(20):
        world.run(1)
        if world.state.placing or world.state.instances or world.decisions[-1:]:
            return world
    pytest.fail("nothing is asked")


@pytest.fixture(autouse=True)
def _all_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """All services are evaluated in one turn."""
    monkeypatch.setattr(turn, "SPREAD", 2)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place, and one answer, a turn."""
    monkeypatch.setattr(placing, "PLACES", 1)
    monkeypatch.setattr(placing, "ANSWERS", 1)


def of(world: World, name: str) -> list[Instance]:
    return sorted(world.state.of_service(name), key=lambda one: one.instance_id)


def homes(world: World, name: str) -> set[str]:
    return {one.ranks[0].agent_id for one in of(world, name)}


def take(world: World, *events: Event) -> Changes:
    """Take the turn that follows at once, without a tick, and commit it."""
    changes = turn.step(world.state, events, world.now, world._mint)
    world.release(changes)
    return changes


def over(world: World) -> World:
    """Let the cycle come to its end."""
    for _ in range(50):
        if not world.state.placing:
            return world
        take(world)
    pytest.fail("the cycle does not end")


def held(world: World) -> list[str]:
    view = world.state.seen.view
    return [one.agent_id for one in view if view.held(one.agent_id)]


def test_a_small_cycle_is_over_within_its_turn() -> None:
    world = asking()
    assert not world.state.placing
    assert [len(of(world, name)) for name in NAMES] == [3, 3, 3]
    assert not held(world)


@pytest.mark.usefixtures("pieces")
def test_a_large_one_takes_turns_and_gives_what_a_small_one_gives() -> None:
    world = asking()
    assert world.state.placing
    assert not world.state.instances
    assert len(held(world)) == 1, "what was found is held for it"
    over(world)
    assert not held(world)
    assert [homes(world, name) for name in NAMES] == [{"n0"}, {"n1"}, {"n2"}]


@pytest.mark.usefixtures("pieces")
def test_reports_that_come_between_pieces_are_taken_and_services_wait() -> None:
    world = asking()
    world.now += 1
    take(world, ReportReceived("n5", 1, 1, received_at=world.now))
    assert world.state.placing
    assert world.state.agents["n5"].heard_at == world.now
    evaluated = dict(world.state.evaluated_at)
    world.now += 60
    take(world, Tick())
    assert world.state.placing
    assert world.state.evaluated_at == evaluated, "one cycle at a time"
    over(world)


@pytest.mark.usefixtures("pieces")
def test_a_step_whose_node_went_away_meanwhile_is_rolled_back_whole() -> None:
    world = asking()
    (lost,) = held(world)
    take(world, AgentDisconnected(lost, world.agents[lost].incarnation))
    over(world)
    for name in NAMES:
        assert len(of(world, name)) == 3, "whole, elsewhere"
        assert lost not in homes(world, name)
    assert not held(world)


@pytest.mark.usefixtures("pieces")
def test_where_there_is_no_other_place_a_lower_one_gives_way_to_a_higher() -> None:
    world = asking(agents=2)
    take(world)
    assert sorted(held(world)) == ["n0", "n1"], "of the two highest"
    take(world, AgentDisconnected("n0", world.agents["n0"].incarnation))
    over(world)
    assert homes(world, "a") == {"n1"}
    assert not of(world, "b")
    assert not of(world, "c")
    said = {one.service: one for one in world.decisions}
    assert said["b"].action is Action.HOLD
    assert said["b"].bound_by == "placement"


@pytest.mark.usefixtures("pieces")
def test_what_is_handed_over_stays_and_the_rest_is_placed_again() -> None:
    world = asking(agents=4)
    for _ in range(9):
        if not world.state.instances:
            take(world)
    assert homes(world, "a") == {"n0"}
    take(world, AgentDisconnected("n1", world.agents["n1"].incarnation))
    over(world)
    assert homes(world, "a") == {"n0"}
    assert homes(world, "b") | homes(world, "c") == {"n2", "n3"}


@pytest.mark.usefixtures("pieces")
def test_a_service_that_changed_meanwhile_gets_no_answer_and_is_evaluated_anew() -> None:
    world = asking()
    take(world, PauseService("pause", "a", "no"))
    over(world)
    assert not of(world, "a")
    assert "a" not in world.state.evaluated_at
    assert of(world, "b")


@pytest.mark.usefixtures("pieces")
def test_a_turn_that_is_not_committed_gives_nothing_and_its_service_asks_again() -> None:
    world = asking()
    for _ in range(9):
        changes = turn.step(world.state, [], world.now, world._mint)
        if changes.instances:
            break
        world.state.apply(changes)
    assert list(world.state.seen.view) == sites.nodes(Draft(world.state, world.now, world._mint))
    over(world)
    assert not of(world, "a"), "dropped"
    assert homes(world, "b") | homes(world, "c") == {"n1", "n2"}
    for _ in range(10):
        world.run(1)
        over(world)
    assert len(of(world, "a")) == 3


def test_who_would_leave_but_was_told_otherwise_meanwhile_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = up(4, pods=2)
    world.traffic.arrivals = 18
    world.run(400)
    world.traffic.arrivals = 1
    monkeypatch.setattr(placing, "ANSWERS", 0)
    while world.now < world.start + 3000 and not world.state.placing:
        world.run(1)
    cycle = world.state.asked.cycle
    assert cycle is not None
    (victims,) = (one.victims for one in cycle.outcomes)
    assert victims is not None
    leaves = victims.instance_ids[0]
    monkeypatch.setattr(placing, "ANSWERS", 1)
    before = len(world.decisions)
    take(world, DrainInstance("drain", leaves))
    assert not world.state.placing
    assert len(world.decisions) == before
    assert "chat" not in world.state.evaluated_at
    assert not world.instances(Role.DECODE, S.WITHDRAWN)


def test_of_a_service_that_placement_raises_on_only_that_is_quarantined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = FleetView.place

    def fail(view: FleetView, ask: Ask, *rest: Any, **more: Any) -> Placed | Infeasible:
        if ask.service == "b":
            raise ZeroDivisionError
        return place(view, ask, *rest, **more)

    monkeypatch.setattr(FleetView, "place", fail)
    world = asking()
    over(world)
    assert "ZeroDivisionError" in world.state.services["b"].quarantine
    assert [len(of(world, name)) for name in NAMES] == [3, 0, 3]
    assert not held(world)


@pytest.mark.usefixtures("pieces")
def test_a_fleet_that_changes_again_and_again_does_not_keep_a_cycle_going() -> None:
    world = asking(agents=9)
    for _ in range(40):
        if not world.state.placing:
            break
        for agent in held(world):
            take(world, AgentDisconnected(agent, world.agents[agent].incarnation))
        take(world)
    assert not world.state.placing
    assert not held(world)
    assert "a" not in world.state.evaluated_at, "it is asked anew at once"


def test_nothing_is_placed_while_much_of_the_fleet_is_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sites, "AT_ONCE", 1)
    world = asking(agents=4)
    assert world.state.placing
    assert world.state.asked.cycle is None
    over(world)
    assert [len(of(world, name)) for name in NAMES] == [3, 3, 3]


def test_a_fleet_that_changes_faster_than_it_is_read_keeps_nobody_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sites, "AT_ONCE", 1)
    monkeypatch.setattr(placing, "PATIENCE", 5)
    world = asking(agents=6)
    turns = 0
    while world.state.placing and turns < 20:
        for name in world.agents:
            world.state.seen.touch(name)
        take(world)
        turns += 1
    assert 5 <= turns < 20
    assert [len(of(world, name)) for name in NAMES] == [3, 3, 3]
    assert world.state.asked.waited == 0


@pytest.mark.usefixtures("pieces")
def test_a_cycle_that_raises_as_a_whole_is_given_up_and_costs_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(cycle: Cycle, most: int | None = None) -> None:
        raise ZeroDivisionError

    world = asking()
    with monkeypatch.context() as broken:
        broken.setattr(Cycle, "commit", fail)
        with pytest.raises(ZeroDivisionError):
            over(world)
    assert not world.state.placing
    assert not held(world)
    world.run(10)
    over(world)
    assert [len(of(world, name)) for name in NAMES] == [3, 3, 3]


def test_where_not_all_are_reached_in_a_tick_the_lowest_priority_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn, "SPREAD", 10)
    state = State(Rules())
    for index in range(100):
        name = f"s{index:02}"
        state.services[name] = Service(name, spec(priority=index % 2))
    longest, now = dict.fromkeys(state.services, 0.0), 1_000.0
    state.evaluated_at.update(dict.fromkeys(state.services, now))
    slow = state.rules.tick / 2
    for _ in range(40):  # as if each cycle of placement took half a tick
        now += slow
        for name in turn.due(state, now):
            longest[name] = max(longest[name], now - state.evaluated_at[name])
            state.evaluated_at[name] = now
    assert now - min(state.evaluated_at.values()) <= 5 * state.rules.tick, "each was looked at"
    low, high = (max(list(longest.values())[priority::2]) for priority in (0, 1))
    assert high <= low <= 5 * state.rules.tick
