"""A step of the latency guard that finds a place in part: what is noted is what was placed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heteroscale.words import Role
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.launching import _placed_for_breach
from heteroscale_coordinator.core.memory import Breach, PolicyMemory
from heteroscale_coordinator.core.model import Action, Decision, Verdict
from tests.core.policy.build import NOW, PLAIN
from tests.core.test_review_policy import spec_of
from tests.core.world import World

GUARD = {"startup": "60s", "tiers": [{"breach": 1.1, "step": 1.0}]}


def in_breach(gpus: int, **changes: Any) -> World:
    """Return a world of one node where one prefill and two decode serve, and tokens are too slow."""
    world = World()
    world.join("n0", {"s1": "pod"}, ["H20"] * gpus)
    base: dict[str, Any] = {
        "slo": {"tbt": "50ms"},
        "ratio": {"min": 0.1, "max": 2.0},
        "policy": {**PLAIN, "guard": GUARD},
    }
    world.send(ApplyService("r", "chat", spec_of(**{**base, **changes}), ""))
    world.run(60)
    world.traffic.tbt, world.traffic.arrivals = 0.06, 3.0
    world.run(40)
    return world


def steps(world: World) -> list[Decision]:
    return [one for one in world.decisions if one.action is Action.SCALE_OUT]


def breach_of(world: World) -> Breach:
    found = world.state.services["chat"].memory.breach
    assert found is not None
    return found


def test_what_had_no_place_is_not_noted_as_given_and_comes_once_there_is_room() -> None:
    world = in_breach(gpus=4)
    (part,) = steps(world)
    assert (part.delta, part.bound_by) == ({Role.DECODE: 1}, "placement")
    assert breach_of(world).given == {Role.DECODE: 1}
    world.join("n1", {"s1": "pod"}, ["H20"] * 8)
    world.run(10)
    # Long before a start-up and a window are over: it is the same step.
    assert [one.delta for one in steps(world)] == [{Role.DECODE: 1}] * 2
    assert breach_of(world).given == {Role.DECODE: 2}
    world.run(30)
    assert len(steps(world)) == 2


def test_a_step_that_bounds_cut_short_is_noted_as_it_is() -> None:
    roles = {
        "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
        "decode": {"template": "decode", "min": 2, "max": 3, "target": 1000},
    }
    world = in_breach(gpus=8, roles=roles)
    assert [one.delta for one in steps(world)] == [{Role.DECODE: 1}]
    assert breach_of(world).given == {Role.DECODE: 1}


def verdict_of(begun: Breach | None, done: Breach | None, **delta: int) -> Verdict:
    asked = {Role(role): n for role, n in delta.items()}
    before, after = PolicyMemory(breach=begun), PolicyMemory(breach=done, last_guard_at=NOW)
    return Verdict(Action.SCALE_OUT, "", "guard", before, after, asked)


def test_a_step_of_which_only_the_companions_had_a_place_is_still_to_come() -> None:
    begun = Breach(NOW - 60, {Role.PREFILL: 2, Role.DECODE: 4}, NOW - 50, {Role.PREFILL: 1})
    done = replace(begun, last_step_at=NOW, given={Role.PREFILL: 3})
    step = verdict_of(begun, done, prefill=2, decode=4)
    left = _placed_for_breach(step, {Role.DECODE: 2})
    assert (left.breach, left.last_guard_at) == (begun, None)
    part = _placed_for_breach(step, {Role.PREFILL: 1, Role.DECODE: 2})
    assert part.breach == replace(done, given={Role.PREFILL: 2})
    assert part.last_guard_at == NOW


def test_what_is_noted_of_an_attention_is_under_prefill() -> None:
    begun = Breach(NOW, {Role.PREFILL: 2})
    step = verdict_of(begun, replace(begun, given={Role.PREFILL: 2}), attention=2, ffn=1)
    found = _placed_for_breach(step, {Role.ATTENTION: 1, Role.FFN: 1}).breach
    assert found is not None
    assert found.given == {Role.PREFILL: 1}


def test_a_step_that_is_none_of_the_guard_s_leaves_the_breach_as_it_is() -> None:
    begun = Breach(NOW, {Role.PREFILL: 2}, given={Role.PREFILL: 1})
    for one in (begun, None):
        assert _placed_for_breach(verdict_of(one, one, prefill=2), {}).breach == one
