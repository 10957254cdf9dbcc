"""The proportional law: counts for a demand, steps both ways, none of it falling as demand grows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.policy.proportional import needed_in, needed_out
from heteroscale_coordinator.core.policy.steps import step_in, step_out
from heteroscale_coordinator.core.policy.supply import Supply

demands = st.floats(0, 1e5)
targets = st.lists(st.sampled_from([500.0, 1000.0, 3000.0]), min_size=1, max_size=12)


def supply(values: list[float]) -> Supply:
    return Supply(tuple(sorted(values)), len(values), 1000.0, "")


@given(demand=demands, values=targets)
def test_what_a_scale_out_asks_for_carries_the_demand(demand: float, values: list[float]) -> None:
    have = supply(values)
    count = int(needed_out(demand, have).value)
    assert have.total + (count - have.count) * have.next_target >= demand - 1e-3
    assert count == have.count or have.total + (count - have.count - 1) * 1000 < demand


@given(demand=demands, values=targets, tolerance=st.sampled_from([0.0, 0.1, 0.3]))
def test_what_a_scale_in_leaves_carries_the_demand_whoever_goes(
    demand: float, values: list[float], tolerance: float
) -> None:
    have = supply(values)
    count = int(needed_in(demand, have, tolerance).value)
    weakest = sum(sorted(values)[:count])
    assert count == have.count or demand <= (1 - tolerance) * weakest + 1e-6


@given(demand=demands, more=st.floats(0, 1e4), values=targets)
def test_needs_never_fall_as_demand_grows(demand: float, more: float, values: list[float]) -> None:
    have = supply(values)
    assert needed_out(demand + more, have).value >= needed_out(demand, have).value
    assert needed_in(demand + more, have, 0.1).value >= needed_in(demand, have, 0.1).value


@given(present=st.integers(1, 200), needed=st.integers(1, 400), share=st.floats(0.01, 1))
def test_steps_move_at_least_one_never_past_the_need_and_never_more_than_their_share(
    present: int, needed: int, share: float
) -> None:
    after = step_out(present, max(needed, present), share)
    assert present <= after <= max(needed, present)
    assert after - present <= max(1, math.floor(present * share + 1e-6))
    fewer = step_in(present, needed, share)
    assert min(needed, present) <= fewer <= present
    assert (fewer < present) == (needed < present)


@given(present=st.integers(1, 200), needed=st.integers(1, 400), share=st.floats(0.01, 1))
def test_steps_are_monotone_in_the_need(present: int, needed: int, share: float) -> None:
    assert step_out(present, needed + 1, share) >= step_out(present, needed, share)
    assert step_in(present, needed + 1, share) >= step_in(present, needed, share)


@pytest.mark.parametrize(
    ("demand", "count"), [(0, 1), (900, 1), (901, 2), (1800, 2), (3600, 4), (9999, 4)]
)
def test_a_scale_in_aims_below_one_minus_theta(demand: float, count: int) -> None:
    assert needed_in(demand, supply([1000.0] * 4), 0.1).value == count
