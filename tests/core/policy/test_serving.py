"""What serves comes first: a scale-in leaves it in service, and what left comes back before a launch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heteroscale.words import InstanceState
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Rank
from heteroscale_coordinator.core.policy import Member, decide
from tests.core.policy.build import (
    IDLE,
    NOW,
    A,
    D,
    P,
    aggregated_spec,
    decoding,
    instance_of,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)

EASY, LOW = prefilling(2000), decoding(300)
WATCHED = SoftScaleIn("dec-1", NOW - 60, NOW + 240, 2000.0, 2000.0)


def starting_up(n: int, role: Any) -> tuple[Member, ...]:
    return tuple(starting(role) for _ in range(n))


def draining(**changes: Any) -> Member:
    """Return a decode instance that drains because a scale-in was finished."""
    return replace(member(D, IDLE, state=InstanceState.DRAINING, **changes), recallable=True)


class TestWhatMayLeave:
    def test_above_a_maximum_what_serves_stays_until_the_rest_has_started(self) -> None:
        spec = spec_of(prefill=(1, 1), decode=(2, 2))
        serving = (*many(1, P, EASY), *many(2, D, decoding(950)))
        early = decide(view_of(spec, *serving, starting(P), *starting_up(2, D)))
        assert (early.action, early.bound_by) == (Action.HOLD, "starting")
        assert "still starting" in early.reason
        later = decide(view_of(spec, *serving, member(P, EASY), member(D, LOW), starting(D)))
        assert (later.action, later.delta, later.bound_by) == (
            Action.SCALE_IN,
            {P: 1, D: 1},
            "bounds",
        )

    def test_a_surplus_stays_until_the_rest_serves(self) -> None:
        memory = PolicyMemory(wanted={P: 2, D: 3})
        serving = (*many(2, P, EASY), *many(3, D, LOW))
        found = decide(view_of(spec_of(), *serving, *starting_up(2, D), memory=memory))
        assert (found.action, found.bound_by) == (Action.HOLD, "starting")

    def test_low_demand_takes_no_more_than_leaves_what_is_to_remain(self) -> None:
        """Eleven, of which three may go and eight remain: while two start, only one may."""
        serving = (*many(5, P, EASY), *many(9, D, LOW))
        full = decide(view_of(spec_of(), *many(6, P, EASY), *many(11, D, LOW)))
        assert full.delta[D] == 3
        found = decide(view_of(spec_of(), *serving, starting(P), *starting_up(2, D)))
        assert (found.action, found.delta[D], found.done.wanted[D]) == (Action.SCALE_IN, 1, 10)

    def test_what_is_not_ours_is_left_out_and_holds_up_nothing(self) -> None:
        """Three static decode above a maximum of two: growth goes on, and ours can still leave."""
        spec = spec_of(prefill=(1, 8), decode=(1, 2), ratio={"min": 0.5, "max": 4.0})
        static = many(3, D, decoding(900), origin="config")
        busy = decide(view_of(spec, *many(1, P, prefilling(5900)), *static))
        assert (busy.action, busy.delta) == (Action.SCALE_OUT, {P: 1})
        assert busy.done.wanted[D] == 2
        calm = decide(view_of(spec, *many(2, P, prefilling(4500)), *static))
        assert (calm.action, calm.bound_by) == (Action.HOLD, "bounds")
        assert "not ours to withdraw" in calm.reason
        mixed = decide(view_of(spec, *many(2, P, prefilling(4500)), *static[:2], member(D, LOW)))
        assert (mixed.action, mixed.delta) == (Action.SCALE_IN, {D: 1})

    def test_a_shrinking_service_wants_only_what_it_reached(self) -> None:
        """Prefill may go, decode is static: the ratio decides, and nothing is wanted less."""
        static = many(8, D, LOW, origin="config")
        found = decide(view_of(spec_of(), *many(4, P, prefilling(500)), *static))
        assert (found.action, found.bound_by) == (Action.HOLD, "ratio")
        band = spec_of(ratio={"min": 0.25, "max": 1.0})
        alone = decide(view_of(band, *many(4, P, prefilling(500)), *static))
        assert (alone.action, alone.delta[P]) == (Action.SCALE_IN, 1)
        assert D not in alone.delta
        assert alone.done.wanted == {P: 3, D: 8}


class TestRescue:
    def test_a_role_that_serves_nothing_takes_back_what_was_withdrawn(self) -> None:
        """Also above a maximum that those still starting fill, and with nothing heard."""
        spec = spec_of(prefill=(1, 1), decode=(2, 2))
        memory = PolicyMemory(wanted={P: 1, D: 2}, soft=WATCHED)
        out = (withdrawn(D), withdrawn(D), withdrawn(D))
        view = view_of(spec, member(P, EASY), *starting_up(2, D), *out, memory=memory)
        found = decide(view)
        assert (found.action, found.delta) == (Action.REINSTATE, {D: 2})
        assert found.done.wanted == {P: 1, D: 2}
        assert decide(replace(view, partition=True)).delta == {D: 2}
        assert decide(replace(view, covered=False, launch_only=True)).delta == {D: 2}

    def test_the_other_role_is_rescued_too(self) -> None:
        memory = PolicyMemory(wanted={P: 1, D: 2}, soft=WATCHED)
        members = (*many(2, D, LOW), starting(P), withdrawn(P))
        found = decide(view_of(spec_of(), *members, memory=memory))
        assert (found.action, found.delta) == (Action.REINSTATE, {P: 1})

    def test_the_silent_may_be_serving_and_count_against_the_maximum(self) -> None:
        silent = many(2, D, state=InstanceState.UNKNOWN)
        memory = PolicyMemory(wanted={P: 1, D: 2}, soft=WATCHED)
        members = (member(P, EASY), *silent, withdrawn(D))
        tight = view_of(spec_of(decode=(1, 2)), *members, memory=memory)
        assert decide(tight).action is Action.HOLD
        assert decide(view_of(spec_of(), *members, memory=memory)).delta == {D: 1}


class TestBeforeALaunch:
    def test_a_drain_is_called_off_for_what_is_missing(self) -> None:
        memory = PolicyMemory(wanted={P: 2, D: 4})
        members = (*many(2, P, EASY), *many(2, D, decoding(900)), draining())
        found = decide(view_of(spec_of(), *members, memory=memory))
        assert (found.action, found.delta) == (Action.REINSTATE, {D: 1})

    def test_a_drain_that_is_not_ours_to_call_off_is_replaced(self) -> None:
        memory = PolicyMemory(wanted={P: 2, D: 3})
        ordered = member(D, IDLE, state=InstanceState.DRAINING)
        members = (*many(2, P, EASY), *many(2, D, decoding(900)), ordered)
        found = decide(view_of(spec_of(), *members, memory=memory))
        assert (found.action, found.delta) == (Action.REPAIR, {D: 1})

    def test_a_drain_is_called_off_for_demand_at_once(self) -> None:
        memory = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 10, launch_after=NOW + 30)
        members = (*many(2, P, EASY), *many(4, D, decoding(1300)), draining(), draining())
        view = view_of(spec_of(), *members, memory=memory)
        found = decide(view)
        assert (found.action, found.delta) == (Action.REINSTATE, {D: 2})
        assert found.done.wanted == {P: 2, D: 6}
        assert found.done.last_out_at == NOW - 10
        again = decide(replace(view, memory=found.done))
        assert again.done.wanted == {P: 2, D: 6}

    def test_a_drain_is_called_off_for_a_breach(self) -> None:
        members = (*many(2, P, EASY), *many(4, D, decoding(700, tbt=0.08)), draining())
        found = decide(view_of(spec_of(), *members))
        assert (found.action, found.delta) == (Action.REINSTATE, {D: 1})
        assert found.done.last_guard_at == NOW

    def test_no_more_comes_back_than_the_maximum_allows(self) -> None:
        members = (*many(2, P, EASY), *many(4, D, decoding(1300)), draining(), draining())
        assert decide(view_of(spec_of(decode=(1, 5)), *members)).delta == {D: 1}
        assert decide(view_of(spec_of(decode=(1, 4)), *members)).action is Action.HOLD


class TestUnheard:
    """Coverage did not come in time: what adds goes on, on what is heard."""

    late: dict[str, Any] = {"covered": False, "launch_only": True}

    def test_demand_is_followed(self) -> None:
        members = (*many(2, P, EASY), *many(3, D, decoding(1400)), member(D))
        found = decide(view_of(spec_of(), *members, **self.late))
        assert found.action is Action.SCALE_OUT

    def test_a_breach_is_answered(self) -> None:
        members = (*many(2, P, EASY), *many(3, D, decoding(700, tbt=0.08)), member(D))
        found = decide(view_of(spec_of(), *members, **self.late))
        assert (found.action, found.bound_by) == (Action.SCALE_OUT, "guard")

    def test_a_scale_in_is_taken_back_but_not_finished(self) -> None:
        over = replace(WATCHED, at=NOW - 400, until=NOW - 100)
        memory = PolicyMemory(wanted={P: 2, D: 3}, soft=over)
        calm = (*many(2, P, EASY), *many(3, D, decoding(600)), withdrawn(D))
        held = decide(view_of(spec_of(), *calm, memory=memory, **self.late))
        assert (held.action, held.bound_by) == (Action.HOLD, "coverage")
        busy = (*many(2, P, EASY), *many(3, D, decoding(1300)), withdrawn(D))
        found = decide(view_of(spec_of(), *busy, memory=memory, **self.late))
        assert (found.action, found.delta) == (Action.REINSTATE, {D: 1})

    def test_below_the_least_coverage_only_what_is_missing_is_launched(self) -> None:
        members = (*many(2, P, EASY), member(D, decoding(1400)), *many(3, D))
        assert decide(view_of(spec_of(), *members, **self.late)).action is Action.HOLD


class TestCounts:
    def test_gpus_of_a_role_that_is_gone_are_paid_for(self) -> None:
        spec = aggregated_spec((4, 6)).model_copy(update={"max_gpus": 6})
        two = (Rank("a", (0, 1)), Rank("b", ()))
        old = (Member(instance_of(D), None), Member(instance_of(D, ranks=two), None))
        found = decide(view_of(spec, *old, memory=PolicyMemory()))
        assert (found.action, found.delta) == (Action.REPAIR, {A: 2})

    def test_what_is_asked_back_twice_is_wanted_once(self) -> None:
        """In a partition repair is silent, so the observation asks again until it is back."""
        spec = spec_of(decode=(1, 4))
        memory = PolicyMemory(wanted={P: 2, D: 3}, soft=WATCHED)
        members = (*many(2, P, EASY), *many(3, D, decoding(1500)), withdrawn(D), withdrawn(D))
        view = view_of(spec, *members, memory=memory, partition=True)
        first = decide(view)
        assert (first.delta, first.done.wanted) == ({D: 1}, {P: 2, D: 4})
        roomy = replace(view, spec=spec_of(decode=(1, 9)), memory=first.done)
        assert decide(roomy).done.wanted == {P: 2, D: 5}
        again = decide(replace(view, spec=spec_of(decode=(1, 4)), memory=first.done))
        assert again.done.wanted == {P: 2, D: 4}
