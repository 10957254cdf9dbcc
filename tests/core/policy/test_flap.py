"""The flap guard: reversals lengthen cooldowns, both ways, up to a limit, and are forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.stability import StabilityMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide, flap
from heteroscale_coordinator.core.policy.stability import cooldown_in_left, cooldown_out_left
from heteroscale_coordinator.core.spec import PolicySpec
from tests.core.policy.build import IDLE, NOW, D, P, decoding, many, prefilling, spec_of, view_of

POLICY = PolicySpec()
GUARD = POLICY.stability.flap


def turned(times: int, *, ago: float = 10.0) -> PolicyMemory:
    """Return the memory of a service that changed its direction so often a short while ago."""
    reversals = tuple(NOW - ago - i for i in reversed(range(times)))
    return PolicyMemory(wanted={P: 2, D: 4}, stability=StabilityMemory(reversals=reversals))


def changed(
    action: Action, memory: PolicyMemory, now: float, bound_by: str = "demand"
) -> PolicyMemory:
    """Return what is remembered after a law changed the wanted counts."""
    wanted = {P: 3, D: 6} if memory.wanted == {P: 2, D: 4} else {P: 2, D: 4}
    verdict = Verdict(action, "So.", bound_by, memory, replace(memory, wanted=wanted))
    return flap.noted(verdict, POLICY, now).done


def test_a_change_of_direction_within_the_window_is_a_reversal() -> None:
    memory = changed(Action.SCALE_OUT, PolicyMemory(wanted={P: 2, D: 4}), NOW)
    assert memory.stability.reversal_count == 0, "the first change turns nothing"
    memory = changed(Action.SCALE_IN, memory, NOW + 700)
    memory = changed(Action.SCALE_OUT, memory, NOW + 800)
    assert memory.stability.reversals == (NOW + 700, NOW + 800)
    memory = changed(Action.SCALE_OUT, memory, NOW + 990)
    assert memory.stability.reversal_count == 2, "the same way again turns nothing"
    memory = changed(Action.SCALE_IN, memory, NOW + 990 + GUARD.window)
    assert memory.stability.reversal_count == 2, "after so long it is a tide"


@pytest.mark.parametrize("bound_by", ["shortage", "schedule", "wanted"])
def test_what_no_law_asks_for_is_no_reversal(bound_by: str) -> None:
    memory = changed(Action.SCALE_OUT, PolicyMemory(wanted={P: 2, D: 4}), NOW)
    memory = changed(Action.SCALE_IN, memory, NOW + 9, bound_by)
    assert (memory.stability.reversal_count, memory.stability.direction) == (0, "out")


def test_taking_back_is_no_reversal_but_withdrawing_again_is() -> None:
    memory = changed(Action.SCALE_IN, PolicyMemory(wanted={P: 2, D: 4}), NOW)
    memory = changed(Action.REINSTATE, memory, NOW + 30)
    assert memory.stability.reversal_count == 0
    memory = changed(Action.SCALE_IN, memory, NOW + 700)
    assert memory.stability.reversal_count == 1


def test_reversals_lengthen_both_cooldowns_and_are_forgotten() -> None:
    for times, factor in ((GUARD.allowed, 1.0), (GUARD.allowed + 1, GUARD.growth)):
        memory = replace(turned(times), last_out_at=NOW)
        assert cooldown_out_left(memory, POLICY, NOW) == POLICY.cooldown_out * factor
        assert cooldown_in_left(memory, POLICY, NOW) == POLICY.cooldown_in * factor
    later = NOW + GUARD.window
    memory = replace(turned(GUARD.allowed + 1), last_out_at=later)
    assert cooldown_out_left(memory, POLICY, later) == POLICY.cooldown_out


def test_the_larger_of_a_wrong_scale_in_and_flapping_counts() -> None:
    memory = replace(turned(GUARD.allowed + 1), cooldown_in_factor=2.0)
    assert flap.factor_in(memory, POLICY, NOW).value == 2.0


@settings(max_examples=100, deadline=None)
@given(times=st.integers(0, 40), ago=st.floats(0, 5000), growth=st.floats(1, 1e9))
def test_a_factor_never_leaves_its_limits_and_can_be_replayed(
    times: int, ago: float, growth: float
) -> None:
    guard = GUARD.model_copy(update={"growth": growth})
    policy = POLICY.model_copy(
        update={"stability": POLICY.stability.model_copy(update={"flap": guard})}
    )
    for found, most in (
        (flap.factor_in(turned(times, ago=ago), policy, NOW), guard.most_in),
        (flap.factor_out(turned(times, ago=ago), policy, NOW), guard.most_out),
    ):
        assert 1.0 <= found.value <= most
        assert sums.replay(found) == found.value


def test_a_lengthened_cooldown_says_so() -> None:
    memory = replace(turned(GUARD.allowed + 1), last_out_at=NOW - 200)
    members = (*many(2, P, prefilling(1000)), *many(4, D, decoding(1400)))
    found = decide(view_of(spec_of(slo={}), *members, memory=memory))
    assert (found.action, found.bound_by) == (Action.HOLD, "cooldown")
    assert found.inputs["cooldown_out"] == "70 s left of 180 s × 1.5"
    assert found.sums["cooldown_out_factor"].value == 1.5


def test_the_guard_is_not_held_up_by_it() -> None:
    memory = replace(turned(GUARD.allowed + 9), last_out_at=NOW - 300)
    slow = decoding(900, tbt=0.2)
    members = (*many(2, P, prefilling(1000)), *many(4, D, slow))
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "guard")


def test_idle_services_turn_once_and_are_done() -> None:
    members = (*many(2, P, IDLE), *many(4, D, IDLE))
    memory = PolicyMemory(
        wanted={P: 2, D: 4},
        low_since=NOW - 900,
        stability=StabilityMemory(direction="out", changed_at=NOW - 900),
    )
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert found.action is Action.SCALE_IN
    assert found.memory.stability.reversal_count == 0, "it counts once it is carried out"
    assert found.done.stability.reversals == (NOW,)
