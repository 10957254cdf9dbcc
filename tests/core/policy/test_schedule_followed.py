"""By the clock: how counts follow the windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.follow import start_ahead
from heteroscale_coordinator.core.spec import PolicySpec
from heteroscale_coordinator.core.sums import replay
from tests.core.policy.build import (
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    starting,
    view_of,
    withdrawn,
)
from tests.core.policy.clocked import MONDAY, NOON, ZONES, calm, office, scheduled, verdict


def test_a_floor_is_launched_as_one_step_of_both_roles_and_named() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    found = verdict(spec, *calm(2, 4))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "schedule")
    assert found.delta == {P: 2, D: 4}
    assert "schedule office: floor 8 decode until 19:00 UTC" in found.reason
    stored = found.sums["schedule_floor_decode"]
    assert replay(stored) == stored.value == 8


def test_what_is_lost_of_a_floor_is_repaired() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    found = verdict(spec, *calm(4, 7), memory=PolicyMemory(wanted={P: 4, D: 8}))
    assert (found.action, found.bound_by, found.delta) == (Action.REPAIR, "schedule", {D: 1})


def test_a_ramp_begins_by_the_measured_start_up_time() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    eight = MONDAY + 8 * 3600
    memory = PolicyMemory(wanted={P: 2, D: 4}, startup_times=(300.0,) * 10)
    early, due = (
        verdict(spec, *calm(2, 4, now=now), now=now, memory=memory)
        for now in (eight - 301, eight - 300)
    )
    assert early.action is Action.HOLD
    assert due.action is Action.SCALE_OUT
    assert "from 08:00 UTC, a start-up time ahead" in due.reason


@pytest.mark.parametrize(
    ("starts", "ahead"), [((), 120.0), ((30.0,), 120.0), ((200.0,), 200.0), ((30.0,) * 10, 30.0)]
)
def test_few_measured_start_ups_do_not_shorten_the_assumed_one(
    starts: tuple[float, ...], ahead: float
) -> None:
    assert start_ahead(PolicyMemory(startup_times=starts), PolicySpec()) == ahead


def test_what_was_launched_ahead_is_not_asked_for_twice() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    members = (*calm(2, 4), *(starting(P) for _ in range(2)), *(starting(D) for _ in range(4)))
    assert verdict(spec, *members).action is Action.HOLD


def test_scale_in_stops_at_the_floor_and_says_so() -> None:
    spec = scheduled(office(floor={"decode": 8}), cooldown_in="1s")
    members = calm(4, 8, share=0.2)
    memory = PolicyMemory(wanted={P: 4, D: 8}, low_since=NOON - 3600)
    found = verdict(spec, *members, memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "floor 8 decode until 19:00" in found.reason


def test_after_the_window_scale_in_is_the_ordinary_one() -> None:
    spec = scheduled(office(floor={"decode": 8}))
    evening = MONDAY + 20 * 3600
    memory = PolicyMemory(wanted={P: 4, D: 8}, low_since=evening - 3600)
    found = verdict(spec, *calm(4, 8, now=evening, share=0.2), now=evening, memory=memory)
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "demand")
    # Dampened: eight decode for a demand of two do not leave at once.
    assert found.delta == {P: 1, D: 2} or found.delta[D] < 5


def test_a_need_beyond_the_ceiling_is_held_by_the_schedule() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *calm(2, 4, share=1.5))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "ceiling 4 decode until 19:00 UTC" in found.reason


def test_a_ceiling_is_reached_softly_in_dampened_steps() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *calm(6, 12, share=0.9))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "schedule")
    assert found.delta == {P: 2, D: 4}
    assert found.done.wanted == {P: 4, D: 8}
    assert found.done.soft is not None
    again = replace(found.done, soft=None)
    held = verdict(spec, *calm(4, 8), memory=again)
    assert (held.action, held.bound_by) == (Action.HOLD, "cooldown")
    later = replace(again, last_in_at=NOON - 601)
    assert verdict(spec, *calm(4, 8), memory=later).delta == {P: 1, D: 2}


def test_what_dies_above_a_ceiling_is_not_replaced() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    memory = PolicyMemory(wanted={P: 4, D: 8}, last_in_at=NOON - 10)
    found = verdict(spec, *calm(4, 7), memory=memory)
    assert found.action is Action.HOLD
    assert found.memory.wanted[D] == 7


# ---- counts that need no signal -----------------------------------------------------------------


def mute(n: int, role: Role, state: InstanceState = InstanceState.IN_SERVICE) -> tuple[Member, ...]:
    """Members whose agents are heard and whose engines tell nothing."""
    return tuple(member(role, state=state) for _ in range(n))


JUST = scheduled(office(counts={"prefill": 3, "decode": 6}))


def test_static_counts_are_launched_with_no_signal_at_all() -> None:
    found = verdict(JUST, *mute(1, P), *mute(2, D))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "schedule")
    assert found.delta == {P: 2, D: 4}


def test_static_counts_that_are_there_hold_without_a_signal() -> None:
    found = verdict(JUST, *mute(3, P), *mute(6, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert "counts 3 prefill, 6 decode until 19:00 UTC" in found.reason


def test_static_counts_are_reached_from_above_without_a_signal_and_settled() -> None:
    found = verdict(JUST, *mute(5, P), *mute(10, D))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "schedule")
    assert found.delta == {P: 1, D: 2}
    soft = SoftScaleIn("d", NOON - 400, NOON - 100, 0.0)
    memory = replace(found.done, soft=soft)
    left = (*mute(4, P), *mute(8, D), withdrawn(P), withdrawn(D), withdrawn(D))
    done = verdict(JUST, *left, memory=memory)
    assert (done.action, done.bound_by) == (Action.FINISH_SCALE_IN, "observation")
    watching = replace(memory, soft=replace(soft, until=NOON + 10))
    held = verdict(JUST, *left, memory=watching)
    assert (held.action, held.bound_by) == (Action.HOLD, "observation")


def test_a_mere_ceiling_takes_nothing_away_unheard() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    found = verdict(spec, *mute(4, P), *mute(8, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "coverage")


def test_unheard_only_the_role_that_is_given_leaves() -> None:
    """Beside four decode at most eight prefill go, but no window gives their count."""
    spec = scheduled(office(counts={"decode": 4}), ratio={"min": 0.25, "max": 2.0})
    found = verdict(spec, *mute(12, P), *mute(4, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "schedule")
    assert verdict(spec, *calm(12, 4)).delta.keys() == {P}  # heard, it comes back to the band


def test_a_mere_ceiling_finishes_no_observation_that_is_unknown() -> None:
    spec = scheduled(office(ceiling={"decode": 4}))
    silent: dict[str, Any] = {"tbt": None, "ttft": None}
    some = (*many(2, P, prefilling(4500, **silent), now=NOON), withdrawn(D, now=NOON))
    some = (*some, *many(4, D, decoding(900, **silent), now=NOON))
    soft = SoftScaleIn("d", NOON - 400, NOON - 100, 3600.0)
    found = verdict(spec, *some, memory=PolicyMemory(wanted={P: 2, D: 4}, soft=soft))
    assert (found.action, found.bound_by) == (Action.HOLD, "observation")


def test_demand_moves_nothing_while_counts_are_given() -> None:
    for share in (0.1, 1.0, 3.0):
        found = verdict(JUST, *calm(3, 6, share=share))
        assert found.action is Action.HOLD


def test_during_a_partition_nothing_is_withdrawn_by_the_clock() -> None:
    view = view_of(JUST, *mute(5, P), *mute(10, D), now=NOON, zones=ZONES, partition=True)
    assert decide(view).action is Action.HOLD
