"""A new coordinator on an old store: what it makes of its absence, and of agents still on their way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Command, CommandState, Instance, Rank, Service, Verb
from heteroscale_coordinator.core.policy.stability import cooldown_in_left, cooldown_out_left
from heteroscale_coordinator.core.resume import moved_on, resume
from heteroscale_coordinator.core.spec import PolicySpec
from heteroscale_coordinator.core.state import State
from tests.core.turn.rig import SPEC
from tests.core.world import World

HOUR = 3600.0
POLICY = PolicySpec()


class TestAbsence:
    def test_an_observation_stands_still(self) -> None:
        soft = SoftScaleIn("dec-1", at=1000.0, until=1300.0, demand=7.0, peak=9.0)
        after = moved_on(PolicyMemory(soft=soft), HOUR).soft
        assert after == replace(soft, at=1000.0 + HOUR, until=1300.0 + HOUR)

    @pytest.mark.parametrize(
        "memory",
        [
            PolicyMemory(last_in_at=500.0, last_out_at=1000.0),
            PolicyMemory(last_in_at=500.0, last_guard_at=1000.0),
            PolicyMemory(last_in_at=1000.0, last_out_at=500.0),
        ],
    )
    def test_the_cooldown_of_scale_in_stands_still(self, memory: PolicyMemory) -> None:
        left = cooldown_in_left(memory, POLICY, 1100.0)
        assert left == POLICY.cooldown_in - 100.0
        assert cooldown_in_left(moved_on(memory, HOUR), POLICY, 1100.0 + HOUR) == left

    def test_low_demand_is_as_old_as_it_was_watched(self) -> None:
        assert moved_on(PolicyMemory(low_since=1000.0), HOUR).low_since == 1000.0 + HOUR

    def test_a_scale_out_is_not_held_up(self) -> None:
        memory = PolicyMemory(last_out_at=1000.0)
        assert cooldown_out_left(memory, POLICY, 1001.0) > 0
        assert cooldown_out_left(moved_on(memory, HOUR), POLICY, 1001.0 + HOUR) == 0

    def test_only_services_that_change_are_written(self) -> None:
        busy = Service("busy", SPEC, memory=PolicyMemory(low_since=1.0))
        state = State(services={"busy": busy, "calm": Service("calm", SPEC)})
        assert list(resume(state, HOUR).services) == ["busy"]
        assert not resume(state, 0.0)


def restarted(state: State, now: float) -> World:
    """Return a world around a new coordinator that knows what ``state`` stores, and nobody yet."""
    world = World(state.rules, start=now)
    world.state = State(
        rules=state.rules,
        services=dict(state.services),
        instances=dict(state.instances),
        commands=dict(state.commands),
    )
    world.state.begin(now)
    return world


@pytest.fixture
def stored() -> State:
    """One service at its least on agents n0 and n1, and a decode launch on its way to n2."""
    world = World()
    for name in ("n0", "n1"):
        world.join(name, {"s1": "pod-0"}, ["H20"] * 2)
    world.send(ApplyService("apply", "chat", SPEC, ""))
    world.run(60)
    assert world.serving(Role.DECODE) == 2
    launch = Command(
        "cmd-open", Verb.LAUNCH, "n2", "i-new", "chat", "dec-0", 0, world.now, world.now + 60
    )
    starting = Instance(
        "i-new", "chat", Role.DECODE, (Rank("n2", (0,)),), S.PENDING, 0, world.now, world.now
    )
    world.state.commands["cmd-open"] = launch
    world.state.instances["i-new"] = starting
    return world.state


class TestAgentsOnTheirWay:
    def test_an_agent_never_heard_is_not_lost_before_cover_for(self, stored: State) -> None:
        stored.rules = stored.rules.model_copy(update={"lost_after": 20.0, "cover_for": 60.0})
        world = restarted(stored, 1_001_000.0)
        world.join("n1", {"s1": "pod-0"}, ["H20"] * 2)
        world.run(55)
        states = {i.state for i in world.state.instances.values() if i.agent_id == "n0"}
        assert S.LOST not in states

    def test_an_open_launch_waits_for_its_agents_word(self, stored: State) -> None:
        """Its deadline is long over, but the agent may have carried it out."""
        world = restarted(stored, 1_001_000.0)
        world.run(stored.rules.cover_for - 1)
        assert fate(world) is CommandState.OPEN
        assert world.state.instances["i-new"].state is not S.FAILED
        world.run(stored.rules.silent_after + 2)
        assert fate(world) is CommandState.EXPIRED


def fate(world: World) -> CommandState:
    return world.state.commands["cmd-open"].state
