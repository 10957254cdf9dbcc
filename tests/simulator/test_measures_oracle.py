"""The oracles against exhaustive search: every sequence of counts, every ratio, on small cases."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import Counts, Offer
from heteroscale_simulator.measures.oracle import Needs, fixed, free, static_peak
from heteroscale_simulator.measures.schedule import Ladder, Schedule, paired
from heteroscale_simulator.profiles import load_profile

GPU = load_profile("demo").gpu("H20")
P, D = Role.PREFILL, Role.DECODE


def wanted(
    prefill: list[int],
    decode: list[int],
    lead: float = 60.0,
    gpus: tuple[int, int] = (1, 1),
    last: float = 60.0,
) -> Needs:
    edges = np.append(np.arange(len(prefill)) * 60.0, (len(prefill) - 1) * 60.0 + last)
    ladders = {
        role: Ladder(((Offer("H20", each, GPU, lead), None),))
        for role, each in zip((P, D), gpus, strict=True)
    }
    counts = {P: np.array(prefill), D: np.array(decode)}
    return Needs(edges, counts, ladders, np.zeros(len(prefill)))


def held_seconds(counts: tuple[int, ...], edges: list[float], lead: float) -> float:
    """Instance-seconds of a sequence of counts in service: themselves, and their start-ups."""
    total, before = 0.0, 0
    for minute, count in enumerate(counts):
        total += count * (edges[minute + 1] - edges[minute])
        total += max(count - before, 0) * min(lead, edges[minute])
        before = count
    return total


def cheapest_free(counts: Counts, edges: list[float], lead: float) -> float:
    ranges = [range(int(need), int(counts.max()) + 1) for need in counts]
    return min(held_seconds(choice, edges, lead) for choice in product(*ranges))


def cheapest_fixed(needs: Needs, lead: float, gpus: tuple[int, int], most: int) -> float:
    """The best over every ratio k/d and, by dynamic programming, every sequence of decode counts."""
    edges = needs.edges.tolist()
    prefill, decode = needs.counts[P].tolist(), needs.counts[D].tolist()
    best = inf
    for ratio in {Fraction(k, d) for d in range(1, most + 1) for k in range(1, most + 1)}:
        brought = [ceil(ratio * d) for d in range(most + 1)]
        costs = {0: 0.0}
        for minute, (p, d) in enumerate(zip(prefill, decode, strict=True)):
            length, late = edges[minute + 1] - edges[minute], min(lead, edges[minute])
            costs = {
                now: min(
                    (
                        cost
                        + (gpus[0] * brought[now] + gpus[1] * now) * length
                        + gpus[0] * max(brought[now] - brought[before], 0) * late
                        + gpus[1] * max(now - before, 0) * late
                        for before, cost in costs.items()
                    ),
                    default=inf,
                )
                for now in range(d, most + 1)
                if brought[now] >= p
            }
        best = min([best, *costs.values()])
    return best


small = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=6)
leads = st.sampled_from([0.0, 30.0, 60.0, 90.0, 200.0])
lasts = st.sampled_from([60.0, 17.0])


@given(small, leads, lasts)
@settings(max_examples=50, deadline=None)
def test_no_sequence_of_counts_is_cheaper_than_the_free_oracle(
    needs: list[tuple[int, int]], lead: float, last: float
) -> None:
    case = wanted([p for p, _ in needs], [d for _, d in needs], lead, last=last)
    edges = case.edges.tolist()
    least = sum(cheapest_free(case.counts[role], edges, lead) for role in (P, D))
    assert free(case).gpu_hours * 3600 == pytest.approx(least)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    leads,
    st.sampled_from([(1, 1), (2, 1), (1, 4)]),
)
@settings(max_examples=25, deadline=None)
def test_no_ratio_and_no_sequence_is_cheaper_than_the_fixed_oracle(
    needs: list[tuple[int, int]], lead: float, gpus: tuple[int, int]
) -> None:
    case = wanted([p for p, _ in needs], [d for _, d in needs], lead, gpus)
    found = fixed(case)
    assert found.gpu_hours * 3600 == pytest.approx(cheapest_fixed(case, lead, gpus, 16))
    keeps_its_word(case, found)
    assert found.ratio is not None
    assert (found.counts[P] == paired(found.counts[D], found.ratio)).all()


@given(small, leads, lasts)
@settings(max_examples=30, deadline=None)
def test_limits_are_in_order_and_have_what_is_needed(
    needs: list[tuple[int, int]], lead: float, last: float
) -> None:
    case = wanted([p for p, _ in needs], [d for _, d in needs], lead, last=last)
    for made in (free(case), fixed(case), static_peak(case)):
        keeps_its_word(case, made)
    assert free(case).gpu_hours <= fixed(case).gpu_hours + 1e-9
    assert free(case).gpu_hours <= static_peak(case).gpu_hours + 1e-9


def keeps_its_word(case: Needs, made: Schedule) -> None:
    """Enough in every minute; counts, instances and ledger say the same."""
    lines = made.intervals("chat")
    assert sum(line.gpu_hours for line in lines) == pytest.approx(made.gpu_hours)
    for role in (P, D):
        assert (made.counts[role] >= case.counts[role]).all()
        middles = (case.edges[:-1] + case.edges[1:]) / 2
        there = [sum(h.begin <= at < h.end for h in made.held if h.role is role) for at in middles]
        assert there == made.counts[role].tolist()


def test_a_gap_shorter_than_the_lead_is_bridged_and_a_longer_one_is_not() -> None:
    # Second instance: minutes 1 and 3, and 6; the lead is 90 s.
    case = wanted([1] * 8, [1, 2, 1, 2, 1, 1, 2, 1], lead=90)
    made = free(case)
    second = [(h.launched, h.begin, h.end) for h in made.held if h.role is D and h.level == 2]
    assert second == [(0, 60, 240), (270, 360, 420)]
    assert made.counts[D].tolist() == [1, 2, 2, 2, 1, 1, 2, 1]
    assert made.gpu_hours * 3600 == pytest.approx(2 * 480 + 240 + 150)


def test_the_static_peak_is_the_peak_of_each_role_always() -> None:
    made = static_peak(wanted([1, 3, 1], [2, 2, 5], gpus=(2, 1)))
    assert made.counts[P].tolist() == [3, 3, 3]
    assert made.counts[D].tolist() == [5, 5, 5]
    assert made.gpu_hours * 3600 == pytest.approx((3 * 2 + 5) * 180)


def test_the_fixed_ratio_pays_for_its_drift() -> None:
    # One half of the hour wants 4:1, the other 1:4: the free oracle has 5, one ratio has more.
    case = wanted([4] * 30 + [1] * 30, [1] * 30 + [4] * 30, lead=0)
    assert free(case).gpu_hours == pytest.approx(5)
    assert fixed(case).gpu_hours == pytest.approx(8)  # 4:4 at any moment, or 4:1 and 16:4 …


def test_a_fleet_without_room_for_any_ratio_says_for_how_long() -> None:
    offer = Offer("H20", 1, GPU)
    case = wanted([4] * 30 + [1] * 30, [1] * 30 + [4] * 30, lead=0)
    tight = replace(case, ladders={P: Ladder(((offer, 4),)), D: Ladder(((offer, 3),))})
    made = fixed(tight)
    assert made.gpu_hours == pytest.approx(8)
    assert made.short_seconds == 60 * 60  # it wants four of decode at any moment
    assert fixed(case).short_seconds == 0


def test_a_ladder_takes_the_cheaper_type_first_and_the_next_when_it_is_used_up() -> None:
    ladder = Ladder(((Offer("H20", 1, GPU), 2), (Offer("L20", 4, GPU), 3)))
    assert [offer.gpu_type for offer in ladder.offers(4)] == ["H20", "H20", "L20", "L20"]
    assert ladder.height == 5
    assert Ladder(((Offer("H20", 1, GPU), None),)).height is None
