"""Wanted counts: where they come from, how they are restored, and what restart and silence change."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import ServiceView, decide
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
)

EASY, FINE = prefilling(4000), decoding(950)
NEW = PolicyMemory()


def test_a_new_service_launches_its_minimum_adjusted_to_the_ratio() -> None:
    found = decide(ServiceView("chat", spec_of(decode=(4, 8)), (), NEW, NOW))
    assert (found.action, found.delta) == (Action.REPAIR, {P: 2, D: 4})
    assert found.memory.wanted == {P: 2, D: 4}


def test_a_service_laid_over_a_running_fleet_wants_what_runs() -> None:
    members = (*many(3, P, EASY), *many(6, D, FINE))
    found = decide(view_of(spec_of(), *members, memory=NEW))
    assert found.action is Action.HOLD
    assert found.memory.wanted == {P: 3, D: 6}


def test_what_is_missing_is_launched_without_a_cooldown() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 1, last_in_at=NOW - 1)
    found = decide(view_of(spec_of(), *many(2, P, EASY), *many(3, D, FINE), memory=memory))
    assert (found.action, found.delta, found.bound_by) == (Action.REPAIR, {D: 1}, "wanted")
    assert found.done.last_out_at == NOW - 1


@pytest.mark.parametrize("state", [InstanceState.LOST, InstanceState.FAILED])
def test_the_lost_and_the_failed_are_replaced(state: InstanceState) -> None:
    members = (*many(2, P, EASY), *many(3, D, FINE), member(D, state=state))
    found = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 4})))
    assert (found.action, found.delta) == (Action.REPAIR, {D: 1})


def test_the_silent_are_not_replaced() -> None:
    members = (*many(2, P, EASY), *many(3, D, FINE), member(D, state=InstanceState.UNKNOWN))
    found = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 4})))
    assert found.action is Action.HOLD


def test_the_sick_are_replaced() -> None:
    sick = member(D, IDLE, state=InstanceState.WITHDRAWN, reason=WithdrawReason.SICK)
    members = (*many(2, P, EASY), *many(3, D, FINE), sick)
    found = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 4})))
    assert (found.action, found.delta) == (Action.REPAIR, {D: 1})


def test_backoff_delays_repair_and_says_so() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, launch_after=NOW + 20, launch_failures=2)
    found = decide(view_of(spec_of(), *many(2, P, EASY), *many(3, D, FINE), memory=memory))
    assert (found.action, found.bound_by) == (Action.HOLD, "backoff")
    assert "1 decode missing" in found.reason


def test_a_launch_that_never_succeeds_does_not_freeze_the_service() -> None:
    """One of five never comes up; demand falls: the rest still shrinks, and the fifth is given up."""
    memory = PolicyMemory(wanted={P: 2, D: 5}, launch_after=NOW + 20, low_since=NOW - 900)
    members = (*many(2, P, prefilling(500)), *many(4, D, decoding(200)))
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert (found.action, found.delta) == (Action.SCALE_IN, {D: 1})
    assert found.done.wanted == {P: 2, D: 3}


def test_repair_keeps_to_the_budget() -> None:
    spec = spec_of().model_copy(update={"max_gpus": 6})
    draining = member(D, IDLE, state=InstanceState.DRAINING)
    members = (*many(2, P, EASY), *many(3, D, FINE), draining)
    found = decide(view_of(spec, *members, memory=PolicyMemory(wanted={P: 2, D: 4})))
    assert (found.action, found.bound_by) == (Action.HOLD, "bounds")


def test_an_operators_scale_is_carried_out_both_ways() -> None:
    """A wish is wanted counts set from outside: out by repair, in by a soft scale-in."""
    members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(600)))
    up = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 3, D: 6})))
    assert (up.action, up.delta) == (Action.REPAIR, {P: 1, D: 2})
    down = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 3})))
    assert (down.action, down.delta) == (Action.SCALE_IN, {D: 1})


def test_a_raised_minimum_and_a_lowered_maximum_move_the_wanted_counts() -> None:
    members = (*many(2, P, EASY), *many(4, D, FINE))
    higher = decide(view_of(spec_of(decode=(6, 8)), *members))
    assert higher.memory.wanted == {P: 3, D: 6}
    lower = decide(view_of(spec_of(decode=(1, 2)), *members))
    assert lower.memory.wanted == {P: 1, D: 2}


def test_while_covering_nothing_is_done_and_nothing_is_concluded() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900)
    found = decide(view_of(spec_of(), *many(2, P, EASY), memory=memory, covered=False))
    assert (found.action, found.bound_by) == (Action.HOLD, "coverage")
    assert found.memory == memory


def test_after_waiting_in_vain_only_launches_are_made() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900)
    late: dict[str, Any] = {"memory": memory, "covered": False, "launch_only": True}
    short = decide(view_of(spec_of(), *many(2, P, IDLE), *many(3, D, IDLE), **late))
    assert (short.action, short.delta) == (Action.REPAIR, {D: 1})
    idle = decide(view_of(spec_of(), *many(2, P, IDLE), *many(4, D, IDLE), **late))
    assert (idle.action, idle.bound_by) == (Action.HOLD, "coverage")


def test_during_a_partition_nothing_is_replaced_or_withdrawn() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 6}, low_since=NOW - 900)
    silent = many(2, D, state=InstanceState.UNKNOWN)
    calm = (*many(2, P, prefilling(500)), *many(3, D, decoding(100)), *silent)
    found = decide(view_of(spec_of(), *calm, memory=memory, partition=True))
    assert (found.action, found.bound_by) == (Action.HOLD, "partition")
    assert found.memory.low_since is None


def test_during_a_partition_fresh_evidence_still_scales_out() -> None:
    silent = many(2, D, state=InstanceState.UNKNOWN)
    busy = (*many(3, P, EASY), *many(4, D, decoding(1300)), *silent)
    found = decide(view_of(spec_of(), *busy, partition=True))
    assert (found.action, found.delta) == (Action.SCALE_OUT, {P: 1, D: 2})
    deaf = (*many(3, P, EASY), *many(1, D, decoding(1300)), *many(3, D))
    assert decide(view_of(spec_of(), *deaf, partition=True)).action is Action.HOLD


def test_after_a_partition_those_who_came_back_leave_softly() -> None:
    """Two were replaced while they were away; six are there, four are wanted."""
    returned = many(2, D, decoding(400), replaced=True)
    members = (*many(2, P, prefilling(2500)), *many(4, D, decoding(650)), *returned)
    found = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 4})))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_IN, {D: 2}, "wanted")


def test_held_back_for_the_ratio_is_on_its_way() -> None:
    held = member(
        D, IDLE, state=InstanceState.WITHDRAWN, reason=WithdrawReason.RATIO_HOLD, changed_at=NOW - 5
    )
    awaited = starting(P, changed_at=NOW - 50)
    view = view_of(spec_of(), member(P, EASY), awaited, *many(3, D, FINE), held)
    assert (view.present()[D], view.pending()[D], view.withdrawn()[D]) == (4, 1, 0)
    assert decide(view).action is Action.HOLD


def test_before_anything_serves_it_says_so() -> None:
    members = (starting(P), starting(D), starting(D))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.reason) == (Action.HOLD, "Nothing is in service yet.")
