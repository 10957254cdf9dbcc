"""The circuit breaker on launches, on its own and within the turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import breaker
from heteroscale_coordinator.core.events import (
    ApplyService,
    DrainInstance,
    ResumeService,
    ScaleService,
)
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Decision, Instance, Rank
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec.stability import BreakerSpec
from tests.core.policy.build import NOW, D, instance_of
from tests.core.test_review_policy import spec_of
from tests.core.world import World

SPEC, RULES = BreakerSpec(), Rules()


def launched(
    agent_id: str = "n0", gpu_type: str = "H20", at: float = NOW, state: S = S.FAILED
) -> Instance:
    return instance_of(
        D, state, gpu_type=gpu_type, changed_at=at, ranks=(Rank(agent_id, (0,)),), startup_time=None
    )


def served(agent_id: str = "n0", gpu_type: str = "H20", at: float = NOW) -> Instance:
    """Return an instance that got ready at ``at``."""
    return replace(
        launched(agent_id, gpu_type, at, S.IN_SERVICE), created_at=at - 30, startup_time=30.0
    )


def failing(*where: tuple[str, str], memory: PolicyMemory | None = None) -> PolicyMemory:
    """Return the memory after launches failed at these nodes and types, one a second."""
    memory = memory or PolicyMemory()
    for number, (agent_id, gpu_type) in enumerate(where):
        now = NOW + number
        memory = breaker.after_failure(memory, SPEC, RULES, launched(agent_id, gpu_type, now), now)
    return memory


def shut(memory: PolicyMemory, now: float, *trying: Instance) -> breaker.Barred:
    return breaker.barred(memory, SPEC, trying, now)


def test_failures_in_a_row_at_a_node_open_it_and_nothing_else() -> None:
    assert shut(failing(*[("n0", "H20")] * (SPEC.failures - 1)), NOW + 9) == breaker.Barred({}, {})
    found = shut(failing(*[("n0", "H20")] * 9), NOW + 9)
    assert set(found.nodes) == {"n0"}
    assert not found.types, "one bad node condemns no type"
    assert "9 launches failed in a row, tried again in" in found.text


def test_a_type_opens_by_failures_at_different_nodes() -> None:
    found = shut(failing(("n0", "H20"), ("n1", "H20"), ("n2", "H20"), ("n3", "L20")), NOW + 9)
    assert set(found.types) == {"H20"}
    assert not found.nodes


def test_after_its_time_one_trial_is_let_through_and_success_closes_it() -> None:
    memory = failing(*[("n0", "H20")] * 3)
    half = NOW + 2 + SPEC.open
    assert shut(memory, half - 1).nodes
    assert shut(memory, half).trial_nodes == {"n0"}
    trial = launched("n0", at=half, state=S.LAUNCHING)
    assert "a trial is under way" in shut(memory, half + 5, trial).nodes["n0"]
    well = served("n0", at=half + 30)
    unproven = half + 30 + SPEC.proof - 1
    assert shut(memory, unproven, well).nodes, "started is not proven"
    assert breaker.proven(memory, SPEC, [well], unproven).stability.nodes
    after = breaker.proven(memory, SPEC, [well], unproven + 1)
    assert not after.stability.nodes
    assert after.launch_failures == 0


def test_a_failed_trial_doubles_the_time_up_to_the_most() -> None:
    memory, now, waits = failing(*[("n0", "H20")] * 3), NOW + 2.0, []
    for _ in range(8):
        until = memory.stability.nodes["n0"].until
        assert until is not None
        waits.append(until - now)
        now = until + 1
        memory = breaker.after_failure(memory, SPEC, RULES, launched(at=now), now)
    assert waits == [min(SPEC.open * 2**k, SPEC.most_open) for k in range(8)]


def test_launches_of_before_that_fail_later_do_not_double_it() -> None:
    memory = failing(*[("n0", "H20")] * 3)
    late = launched(at=NOW)
    after = breaker.after_failure(memory, SPEC, RULES, late, NOW + 20)
    assert after.stability.nodes["n0"].until == memory.stability.nodes["n0"].until


def test_what_was_ready_before_the_failure_proves_nothing() -> None:
    memory = failing(*[("n0", "H20")] * 3)
    assert breaker.proven(memory, SPEC, [served(at=NOW - 500)], NOW + 900) == memory


@settings(max_examples=60, deadline=None)
@given(
    story=st.lists(st.tuples(st.sampled_from(["n0", "n1", "n2"]), st.booleans()), max_size=30),
    gap=st.floats(1, 2000),
)
def test_a_node_without_a_failure_of_its_own_is_never_closed(
    story: list[tuple[str, bool]], gap: float
) -> None:
    """Named claim: one bad node never stops the others."""
    memory, now = PolicyMemory(), NOW
    for agent_id, well in story:
        now += gap
        if well and agent_id != "n0":
            memory = breaker.proven(memory, SPEC, [served(agent_id, at=now)], now + SPEC.proof)
        else:
            memory = breaker.after_failure(memory, SPEC, RULES, launched("n0", at=now), now)
        found = shut(memory, now)
        assert set(found.nodes) <= {"n0"}
        assert not found.types
        for one in memory.stability.nodes.values():
            assert one.until is None or one.until - now <= SPEC.most_open


# ---- within the turn ---------------------------------------------------------------------------


def fleet(*types: str, **agents: int) -> World:
    world = World()
    for index, kind in enumerate(types):
        world.join(f"n{index}", {"s1": "pod"}, [kind] * agents.get("gpus", 4))
    return world


def scaled(world: World, prefill: int, decode: int) -> World:
    world.send(ScaleService("r", "chat", {Role.PREFILL: prefill, Role.DECODE: decode}))
    return world


def test_one_bad_node_gets_three_tries_then_none_and_the_others_serve() -> None:
    world = fleet("H20", "H20", "H20")
    world.agents["n0"].refuses = "its disk is full"
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(50)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (1, 2)
    # Elsewhere is full now, so that only the bad node is left for more.
    scaled(world, 4, 8).run(180)
    tried = [c for c in world.commands if c.verb == "launch" and c.agent_id == "n0"]
    assert len({c.cause for c in tried}) == 4, "three in a row, then one trial"
    memory = world.state.services["chat"].memory
    assert memory.stability.nodes["n0"].until is not None
    holds = [d for d in world.decisions if d.action is Action.HOLD and d.bound_by == "placement"]
    assert "n0 4 launches failed in a row, tried again in" in holds[-1].reason
    world.agents["n0"].refuses = ""
    world.send(ResumeService("r", "chat"))
    world.run(120)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (4, 8)
    assert not world.state.services["chat"].memory.stability.nodes


def test_a_bad_gpu_type_falls_back_to_the_next_preferred() -> None:
    world = fleet("H20", "H20", "H20", "H20", "L20", "L20")
    for name in ("n0", "n1", "n2", "n3"):
        world.agents[name].refuses = "no driver for it"
    roles = {
        "prefill": {"template": "prefill", "gpuTypes": ["H20", "L20"], "max": 4, "target": 5000},
        "decode": {"template": "decode", "gpuTypes": ["H20", "L20"], "min": 2, "max": 8},
    }
    world.send(ApplyService("r", "chat", spec_of(roles=roles), ""))
    world.run(150)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (1, 2)
    homes = {i.gpu_type for i in world.state.instances.values() if i.state is S.IN_SERVICE}
    assert homes == {"L20"}


def test_an_engine_that_starts_and_dies_at_once_is_a_failed_launch() -> None:
    world = fleet("H20", "H20")
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(50)
    for _ in range(40):
        world.run(10)
        for instance_id in world.instances(Role.DECODE, S.IN_SERVICE):
            world.kill(instance_id)
    launches = [c for c in world.commands if c.verb == "launch"]
    assert len(launches) < 30, "a crash loop is slowed down"
    memory = world.state.services["chat"].memory
    assert memory.launch_failures > 3
    assert memory.stability.nodes


def test_one_killed_by_hand_is_replaced_once_and_counted() -> None:
    world = fleet("H20", "H20")
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(300)
    victim = world.state.instances[world.instances(Role.DECODE, S.IN_SERVICE)[0]]
    before = len(world.commands)
    world.kill(victim.instance_id)
    world.run(20)
    assert [c.verb for c in world.commands[before:]] == ["launch"]
    memory = world.state.services["chat"].memory
    assert memory.stability.nodes[victim.agent_id].failures == 1
    assert memory.launch_failures == 0, "it did serve: no launch has failed"
    world.run(200)
    assert world.serving(Role.DECODE) == 2


def test_what_an_operator_drains_is_replaced_on_another_node() -> None:
    world = fleet("H20", "H20")
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(120)
    victim = world.state.instances[world.instances(Role.DECODE, S.IN_SERVICE)[0]]
    world.send(DrainInstance("r", victim.instance_id))
    world.run(60)
    (new,) = [i for i in world.state.instances.values() if i.created_at > world.now - 60]
    assert new.agent_id != victim.agent_id


def test_a_step_without_a_place_holds_in_the_same_words_until_it_has_one() -> None:
    world = fleet("H20", gpus=3)
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(60)
    scaled(world, 2, 4).run(100)
    holds = [d for d in world.decisions if d.at > world.now - 90]
    assert {d.bound_by for d in holds} == {"placement"}
    assert len({_words(d) for d in holds}) == 1
    assert "No place for +1 prefill, +2 decode: s1 pod" in holds[-1].reason
    known = world.state.services["chat"].memory
    world.run(4 * world.state.rules.tick)
    after = world.state.services["chat"].memory
    assert (after.stability, after.launch_after) == (known.stability, known.launch_after)
    world.join("n1", {"s1": "pod"}, ["H20"] * 3)
    world.run(60)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (2, 4)
    assert world.state.services["chat"].memory.stability.unplaced is None


def test_a_step_without_a_place_starves_no_later_stage() -> None:
    world = fleet("H20", gpus=9)
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(60)
    scaled(world, 3, 6).run(60)
    one = world.instances(Role.DECODE, S.IN_SERVICE)[0]
    # One is lost for good, nowhere is room for another; then less is wanted.
    world.agents["n0"].inventory = replace(world.agents["n0"].inventory, gpus=())
    world.hello(world.agents["n0"])
    world.kill(one)
    world.run(30)
    assert world.decisions[-1].bound_by == "placement"
    world.run(1200)
    assert world.instances(Role.DECODE, S.WITHDRAWN, S.DRAINING, S.TERMINATED)


def _words(decision: Decision) -> str:
    return "".join(c for c in decision.reason if not c.isdigit())


@pytest.mark.parametrize("change", [True, False])
def test_a_new_specification_is_a_new_chance(change: bool) -> None:
    world = fleet("H20")
    world.agents["n0"].refuses = "no"
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(60)
    assert world.state.services["chat"].memory.stability.nodes
    spec = spec_of(ratio="1:1") if change else spec_of()
    world.send(ApplyService("r", "chat", spec, ""))
    world.turn()
    known = world.state.services["chat"].memory.stability.nodes
    assert bool(known) is not change or world.commands[-1].created_at == world.now


def test_of_a_step_too_large_for_the_fleet_a_part_is_placed_and_the_rest_goes_on_being_asked() -> (
    None
):
    world = fleet("H20", gpus=6)
    world.send(ApplyService("r", "chat", spec_of(), ""))
    world.run(60)
    scaled(world, 4, 8).run(60)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (2, 4)
    part = next(d for d in world.decisions if d.action is Action.REPAIR and d.at > world.now - 60)
    assert (part.bound_by, part.delta) == ("placement", {Role.PREFILL: 1, Role.DECODE: 1})
    assert "1 prefill, 1 decode launched. No place for +2 prefill, +5 decode" in part.reason
    world.join("n1", {"s1": "pod"}, ["H20"] * 6)
    world.run(60)
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (4, 8)
