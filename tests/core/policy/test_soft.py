"""A soft scale-in under observation: taken back, finished, or watched on; never on unknown data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, decide
from tests.core.policy.build import (
    IDLE,
    NOW,
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)
from tests.core.policy.test_forecast import expecting, with_past

EASY = prefilling(2000)


def memory_at(begun: float, demand: float = 2000.0, **changes: Any) -> PolicyMemory:
    """Return what is remembered ``begun`` s after one decode of four was withdrawn."""
    soft = SoftScaleIn("dec-1", NOW - begun, NOW - begun + 300, demand, demand)
    memory = PolicyMemory(wanted={P: 2, D: 3}, soft=soft, last_in_at=NOW - begun)
    return replace(memory, **changes)


def watched(
    *decode: Member, begun: float = 60, prefill: Any = EASY, spec: Any = None, **changes: Any
) -> Verdict:
    """Return the verdict with one decode withdrawn ``begun`` s ago."""
    memory = changes.pop("memory", None) or memory_at(begun)
    members = (*many(2, P, prefill), *decode, withdrawn(D))
    return decide(view_of(spec or spec_of(), *members, memory=memory, **changes))


def test_while_all_is_well_it_is_watched() -> None:
    found = watched(*many(3, D, decoding(700)))
    assert (found.action, found.bound_by) == (Action.HOLD, "observation")
    assert found.inputs["observation"] == "240 s left, since 60 s"


def test_the_highest_demand_is_remembered() -> None:
    soft = watched(*many(3, D, decoding(900))).memory.soft
    assert soft is not None
    assert soft.peak == pytest.approx(2700)
    later = watched(*many(3, D, decoding(500)), memory=memory_at(60, soft=soft)).memory.soft
    assert later is not None
    assert later.peak == pytest.approx(2700)


def test_rising_demand_takes_it_back_without_penalty() -> None:
    found = watched(*many(3, D, decoding(1150)))
    assert (found.action, found.delta) == (Action.REINSTATE, {D: 1})
    assert found.done.cooldown_in_factor == 1.0
    assert found.done.wanted == {P: 2, D: 4}
    assert found.done.soft is None
    assert found.done.last_in_at == NOW - 60


def test_a_breach_at_steady_demand_takes_it_back_and_lengthens_the_cooldown() -> None:
    slow = decoding(700, tbt=0.06)
    found = watched(*many(3, D, slow))
    assert (found.action, found.delta) == (Action.REINSTATE, {D: 1})
    assert found.done.cooldown_in_factor == 2.0
    assert "demand did not rise" in found.reason


def test_demand_that_is_only_expected_takes_it_back_without_penalty() -> None:
    memory = memory_at(60, demand=2400)
    members = (*many(2, P, EASY), *many(3, D, decoding(800)), withdrawn(D))
    spec = spec_of(forecast={"enabled": True})
    seen = with_past(view_of(spec, *members, memory=memory), D, expecting(4500), None)
    found = decide(seen)
    assert found.action is Action.REINSTATE
    assert "demand did not rise" in found.reason
    assert found.done.cooldown_in_factor == 1.0


def test_the_penalty_has_an_end() -> None:
    memory = memory_at(60, cooldown_in_factor=32.0)
    found = watched(*many(3, D, decoding(700, tbt=0.06)), memory=memory)
    assert found.done.cooldown_in_factor == 32.0


def test_a_breach_at_risen_demand_is_no_fault_of_the_scale_in() -> None:
    found = watched(*many(3, D, decoding(900, tbt=0.06)))
    assert found.action is Action.REINSTATE
    assert found.done.cooldown_in_factor == 1.0


def test_after_the_observation_it_is_finished() -> None:
    found = watched(*many(3, D, decoding(700)), begun=300)
    assert (found.action, found.delta) == (Action.FINISH_SCALE_IN, {D: 1})
    assert found.done.wanted == {P: 2, D: 3}


def test_success_shortens_a_lengthened_cooldown() -> None:
    memory = memory_at(300, cooldown_in_factor=4.0)
    found = watched(*many(3, D, decoding(700)), memory=memory)
    assert found.done.cooldown_in_factor == 2.0


def test_finishing_is_asked_once_and_again_only_if_it_did_not_land() -> None:
    done = watched(*many(3, D, decoding(700)), begun=300).done
    assert watched(*many(3, D, decoding(700)), memory=done).action is Action.HOLD
    late: dict[str, Any] = {"memory": done, "now": NOW + 61}
    flow = many(3, D, decoding(700), now=NOW + 61)
    members = (*many(2, P, EASY, now=NOW + 61), *flow, withdrawn(D, now=NOW + 61))
    assert decide(view_of(spec_of(), *members, **late)).action is Action.FINISH_SCALE_IN


def test_once_nothing_is_withdrawn_any_more_it_is_over() -> None:
    done = watched(*many(3, D, decoding(700)), begun=300).done
    draining = member(D, IDLE, state=InstanceState.DRAINING)
    members = (*many(2, P, EASY), *many(3, D, decoding(700)), draining)
    assert decide(view_of(spec_of(), *members, memory=done)).memory.soft is None


def test_it_is_over_at_once_even_when_the_observation_was_short() -> None:
    spec = spec_of(observation=20)
    soft = SoftScaleIn("dec-1", NOW - 20, NOW, 2000.0, 2000.0)
    done = watched(*many(3, D, decoding(700)), memory=memory_at(20, soft=soft), spec=spec).done
    members = (*many(2, P, EASY), *many(3, D, decoding(700)))
    assert decide(view_of(spec, *members, memory=done)).memory.soft is None


def test_a_withdrawal_under_way_is_waited_for_then_given_up() -> None:
    members = (*many(2, P, EASY), *many(4, D, decoding(500)))
    fresh = decide(view_of(spec_of(), *members, memory=memory_at(10)))
    assert fresh.memory.soft is not None
    assert fresh.action is Action.HOLD
    stale = decide(view_of(spec_of(), *members, memory=memory_at(61)))
    assert stale.memory.soft is None


def test_a_peak_that_what_remains_would_not_carry_takes_it_back() -> None:
    soft = SoftScaleIn("dec-1", NOW - 300, NOW, 2000.0, 3400.0)
    memory = memory_at(300, soft=soft)
    found = watched(*many(3, D, decoding(700)), memory=memory)
    assert found.action is Action.REINSTATE
    assert found.done.cooldown_in_factor == 1.0


def test_a_missed_slo_at_the_end_takes_it_back() -> None:
    found = watched(*many(3, D, decoding(700, tbt=0.052)), begun=300)
    assert found.action is Action.REINSTATE
    assert found.done.cooldown_in_factor == 2.0


@pytest.mark.parametrize("silence", ["tbt", "all"])
def test_unknown_finishes_nothing(silence: str) -> None:
    flow = decoding(700, tbt=None) if silence == "tbt" else decoding(700)
    quiet = 60.0 if silence == "all" else 0.0
    found = watched(*many(3, D, flow, silent_for=quiet), begun=400)
    assert found.action is Action.HOLD


def test_idle_finishes() -> None:
    found = watched(*many(3, D, IDLE), begun=300, prefill=IDLE)
    assert found.action is Action.FINISH_SCALE_IN


def test_during_a_partition_nothing_is_finished_but_much_is_taken_back() -> None:
    calm = watched(*many(3, D, decoding(700)), begun=400, partition=True)
    assert (calm.action, calm.bound_by) == (Action.HOLD, "partition")
    rising = watched(*many(3, D, decoding(1200)), partition=True)
    assert rising.action is Action.REINSTATE


def test_a_scale_out_first_takes_back_then_adds_the_rest() -> None:
    first = watched(*many(3, D, decoding(2000)))
    assert (first.action, first.delta) == (Action.REINSTATE, {D: 1})
    back = (*many(2, P, EASY), *many(4, D, decoding(1500)))
    second = decide(view_of(spec_of(), *back, memory=first.done))
    assert (second.action, second.delta) == (Action.SCALE_OUT, {P: 1, D: 2})


def test_until_it_is_back_it_is_asked_for_again_and_nothing_is_launched() -> None:
    done = watched(*many(3, D, decoding(1150))).done
    again = watched(*many(3, D, decoding(1150)), memory=done)
    assert (again.action, again.delta) == (Action.REINSTATE, {D: 1})
    assert again.done.wanted == {P: 2, D: 4}
    assert again.memory.soft is None


def test_what_dies_meanwhile_is_replaced_by_what_was_withdrawn() -> None:
    found = watched(*many(2, D, decoding(700)))
    assert (found.action, found.delta, found.bound_by) == (Action.REINSTATE, {D: 1}, "wanted")
    assert found.done.wanted == {P: 2, D: 3}


def test_above_a_maximum_nothing_comes_back() -> None:
    spec = spec_of(decode=(1, 3))
    rising = watched(*many(3, D, decoding(1300)), spec=spec)
    assert (rising.action, rising.bound_by) == (Action.HOLD, "bounds")
    over = watched(*many(3, D, decoding(1300)), begun=300, spec=spec)
    assert over.action is Action.FINISH_SCALE_IN


def test_withdrawn_instances_that_nobody_watches_are_no_observation() -> None:
    """The turn takes strays back into service; an observation of ours would keep them out."""
    memory = PolicyMemory(wanted={P: 2, D: 3})
    found = watched(*many(3, D, decoding(700)), memory=memory)
    assert found.memory.soft is None
    assert found.action is Action.HOLD


def test_nothing_else_is_withdrawn_meanwhile() -> None:
    memory = memory_at(60, low_since=NOW - 900, last_in_at=NOW - 5000)
    found = watched(*many(3, D, decoding(100)), memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "observation")


def test_pending_instances_count_as_what_remains() -> None:
    found = watched(*many(3, D, decoding(1150)), starting(D))
    assert found.action is Action.HOLD


def test_what_prefill_lacks_takes_no_decode_back_where_the_band_lets_it_grow_alone() -> None:
    busy, band = prefilling(9000, prompt=20000.0), {"min": 0.5, "max": 2.0}
    alone = watched(*many(3, D, decoding(700)), prefill=busy, spec=spec_of(ratio=band))
    assert (alone.action, set(alone.delta)) == (Action.SCALE_OUT, {P}), alone.reason
    assert alone.done.soft is not None
    assert alone.done.wanted[D] == 3
