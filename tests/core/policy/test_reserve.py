"""The reserve and the peaks that are held: what is remembered, what is asked for, what must stay."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.demand import DemandPast
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from tests.core.policy.build import NOW, D, P, decoding, many, prefilling, spec_of, view_of

HELD = 300.0
SLOTS = 10
"""Slots of half a minute in ``HELD``."""


def past(
    peak: float, *, mean: float | None = None, spread: float = 0.0, slots: int = 11
) -> DemandPast:
    told = peak if mean is None else mean
    return DemandPast(NOW - 10, (peak,) * slots, (told,) * slots, spread)


def memory_of(decode: DemandPast) -> PolicyMemory:
    return PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900, demand={D: decode})


def quiet(memory: PolicyMemory, **policy: Any) -> Action:
    members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(300)))
    spec = spec_of(hold=HELD, **policy)
    return decide(view_of(spec, *members, memory=memory)).action


class TestHold:
    """Nothing leaves that the highest demand within ``hold`` would ask back."""

    def test_a_low_past_lets_go(self) -> None:
        assert quiet(memory_of(past(1200))) is Action.SCALE_IN

    def test_a_peak_inside_it_keeps_everything(self) -> None:
        assert quiet(memory_of(past(3500))) is Action.HOLD

    def test_a_peak_before_it_is_forgotten(self) -> None:
        low = past(1200)
        old = replace(low, peaks=(3500.0, *low.peaks))
        assert quiet(memory_of(old)) is Action.SCALE_IN

    @pytest.mark.parametrize("slots", [0, 5, SLOTS - 1])
    def test_until_it_is_remembered_nothing_leaves(self, slots: int) -> None:
        assert quiet(memory_of(past(1200, slots=slots))) is Action.HOLD

    @pytest.mark.parametrize(("spread", "then"), [(0.0, Action.SCALE_IN), (1.5e6, Action.HOLD)])
    def test_without_a_hold_the_reserve_itself_is_kept(self, spread: float, then: Action) -> None:
        """Else what a scale-in took would be asked back by the reserve at once."""
        jumpy = replace(past(1200, spread=spread), at=NOW - 1)
        most = {"deviations": 2.0, "most": 3.0}
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(300)))
        spec = spec_of(hold=0.0, reserve=most)
        decided = decide(view_of(spec, *members, memory=memory_of(jumpy)))
        assert decided.action is then

    def test_a_hole_in_what_is_remembered_begins_anew(self) -> None:
        stale = replace(past(1200), at=NOW - 200)
        assert quiet(memory_of(stale)) is Action.HOLD


class TestLeastStep:
    """What saves little waits: it would be asked back, a start-up late."""

    @pytest.mark.parametrize(
        ("tokens", "low_for", "then"),
        [
            (880, 900, "demand"),  # two of thirty, but for long enough
            (880, 200, "step"),
            (600, 200, "demand"),
        ],
    )
    def test_a_small_one_waits_for_twice_the_hold(
        self, tokens: float, low_for: float, then: str
    ) -> None:
        members = (*many(15, P, prefilling(2000)), *many(30, D, decoding(tokens)))
        memory = replace(
            memory_of(past(30 * tokens)), low_since=NOW - low_for, wanted={P: 15, D: 30}
        )
        spec = spec_of(hold=HELD, least_step_in=0.1, tolerance_in=0.05, dampening_in=1.0)
        found = decide(view_of(spec, *members, memory=memory))
        assert found.bound_by == then
        assert (found.action is Action.SCALE_IN) == (then == "demand")


class TestReserve:
    """What is launched now serves a start-up later: there is room for what may have risen by then."""

    def test_steady_demand_needs_none(self) -> None:
        assert self._added(past(3900)) == 0

    def test_demand_that_jumps_is_given_room(self) -> None:
        """Rises of 500 tok/s, twice: 3,900 + 1,000 on 4,000."""
        assert self._added(past(3900, spread=500.0**2)) == 1

    def test_a_rise_is_read_before_its_slot_is_over(self) -> None:
        """2,000 tok/s at the end of the last slot, 3,900 by now."""
        assert self._added(past(3900, mean=2000, spread=500.0**2)) == 1

    def test_it_has_a_limit(self) -> None:
        assert self._added(past(3900, spread=9000.0**2)) == 2

    def test_none_is_kept_without_deviations(self) -> None:
        assert self._added(past(3900, spread=9000.0**2), deviations=0) == 0

    @staticmethod
    def _added(remembered: DemandPast, deviations: float = 2.0) -> int:
        spec = spec_of(reserve={"deviations": deviations, "most": 0.3})
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(975)))
        found = decide(view_of(spec, *members, memory=memory_of(remembered)))
        assert (found.bound_by == "reserve") == (found.action is Action.SCALE_OUT)
        if found.action is Action.SCALE_OUT:
            assert found.sums["needed_reserve_decode"].value == 4 + found.delta[D]
        return found.delta.get(D, 0)


class TestWander:
    """Of a service that is new, rises within a start-up are not known: minutes stand for them."""

    UNQUIET = (3900.0, 3700.0, 3500.0, 3400.0, 3900.0, 3700.0, 3900.0)
    """Changes within a minute: 400, 300, 400, 300, 0; half of them were less than, or, 300 tok/s."""

    def test_what_changes_by_the_minute_is_given_room(self) -> None:
        """Five slots are a start-up of 120 s and the window: 2 × 300 × √(5 ÷ 2) = 949 tok/s."""
        found = self._decided(self.UNQUIET, watched=10)
        assert found.bound_by == "reserve"
        asked = found.sums["expected_decode"]
        assert asked.value == pytest.approx(3900 + 2 * 300 * math.sqrt(2.5), rel=0.01)
        assert asked.terms["spread"] == 0
        assert found.delta[D] == found.sums["needed_reserve_decode"].value - 4 == 1

    def test_what_is_steady_is_not(self) -> None:
        assert self._decided((3900.0,) * 7, watched=10).action is Action.HOLD

    def test_what_was_watched_for_long_is_known_to_rise_no_more(self) -> None:
        assert self._decided(self.UNQUIET, watched=1800).action is Action.HOLD
        assert self._decided(self.UNQUIET, watched=86_400).action is Action.HOLD

    def test_what_an_older_version_remembered_was_watched_for_long(self) -> None:
        assert self._decided(self.UNQUIET, watched=None).action is Action.HOLD

    def test_a_jump_is_no_course(self) -> None:
        """It shows in three of five changes, since it lies within a minute that two of them share."""
        jump = (400.0, 400.0, 400.0, 2100.0, 3900.0, 3900.0, 3900.0)
        assert self._decided(jump, watched=10).action is Action.HOLD

    def test_few_changes_say_nothing(self) -> None:
        assert self._decided((3000.0, 3900.0, 3000.0, 3900.0), watched=10).action is Action.HOLD

    def test_who_wants_no_reserve_has_none(self) -> None:
        assert self._decided(self.UNQUIET, watched=10, deviations=0.0).action is Action.HOLD

    def test_it_has_the_limit_of_every_reserve(self) -> None:
        wild = tuple(3900.0 - 1200.0 * (i // 2 % 2) for i in range(8))
        asked = self._decided(wild, watched=10).sums["expected_decode"]
        assert asked.value == pytest.approx(1.3 * 3900)

    @pytest.mark.parametrize("gap", [35.0, 200.0])
    def test_it_is_known_since_when_rises_are_watched(self, gap: float) -> None:
        """A hole in what is remembered makes no new service."""
        before = replace(past(1200), at=NOW - gap, since=NOW - 5000)
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(300)))
        after = decide(view_of(spec_of(hold=HELD), *members, memory=memory_of(before))).memory
        assert after.demand[D].since == NOW - 5000

    def test_a_new_service_is_watched_from_now_on(self) -> None:
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(300)))
        after = decide(view_of(spec_of(hold=HELD), *members)).memory
        assert after.demand[D].since == NOW

    @staticmethod
    def _decided(
        means: tuple[float, ...], *, watched: float | None, deviations: float = 2.0
    ) -> Verdict:
        since = None if watched is None else NOW - watched
        known = DemandPast(NOW - 10, (3900.0,) * 11, means, 0.0, since)
        spec = spec_of(reserve={"deviations": deviations, "most": 0.3})
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(975)))
        return decide(view_of(spec, *members, memory=memory_of(known)))


class TestRemembered:
    """A slot every half minute, so that the memory changes no more often."""

    def test_within_a_slot_nothing_changes(self) -> None:
        before = memory_of(past(1200))
        assert self._after(before).demand == before.demand

    def test_a_rise_widens_the_spread_and_a_fall_does_not(self) -> None:
        """After a start-up of 120 s and the window: from 1,000 tok/s to 1,200."""
        rose = replace(past(1000), at=NOW - 35)
        fell = replace(past(5000), at=NOW - 35)
        assert self._after(memory_of(rose)).demand[D].spread > 0
        assert self._after(memory_of(fell)).demand[D].spread == 0

    def test_a_jump_counts_up_to_half_of_what_was_before(self) -> None:
        """Twelve times the demand: as half of 100 tok/s, not as 1,100."""
        jumped = replace(past(100), at=NOW - 35)
        found = self._after(memory_of(jumped)).demand[D].spread
        assert found == pytest.approx(50.0**2 * 30 / 900)  # a slot of what fades in 900 s

    def test_the_newest_slot_holds_peak_and_mean(self) -> None:
        old = replace(past(100), at=NOW - 35)
        found = self._after(memory_of(old)).demand[D]
        assert found.at == NOW
        assert found.means[-1] == pytest.approx(1200, rel=0.05)
        assert found.peaks[-1] >= found.means[-1]

    def test_a_garbled_reading_is_not_remembered(self) -> None:
        """Found by the state machine: the square of a huge rise cannot be stored."""
        before = memory_of(replace(past(100), at=NOW - 35))
        assert self._after(before, tokens=1e300).demand == before.demand

    def test_it_stays_small(self) -> None:
        memory = memory_of(past(1200, slots=40))
        found = self._after(replace(memory, demand={D: replace(memory.demand[D], at=NOW - 35)}))
        assert len(found.demand[D].peaks) <= SLOTS + 1
        assert len(found.demand[D].means) <= SLOTS

    @staticmethod
    def _after(memory: PolicyMemory, tokens: float = 300) -> PolicyMemory:
        members = (*many(2, P, prefilling(2000)), *many(4, D, decoding(tokens)))
        return decide(view_of(spec_of(hold=HELD), *members, memory=memory)).memory
