"""What is known of two roles together without a search: exactly for few, never too few for many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.placement.feasible import (
    at_most_beside,
    hopeless,
    most_beside,
    short,
)
from heteroscale_coordinator.core.placement.hand import Hand
from heteroscale_coordinator.core.placement.kind import Kinds, Terms
from heteroscale_coordinator.core.placement.shape import Shapes
from heteroscale_coordinator.core.topology import SubgroupClass
from tests.core.placement.fleets import BOTH, CALM, D, P, role

_nodes = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6)), max_size=4)


@CALM
@given(st.integers(1, 24), st.integers(1, 8), st.integers(1, 8), _nodes)
def test_the_bound_for_many_is_never_below_what_fits(
    count: int, mine: int, theirs: int, shared: list[tuple[int, int]]
) -> None:
    exact = most_beside(count, (mine, theirs), shared)
    bound = at_most_beside(count, (mine, theirs), shared)
    assert exact <= bound
    # Where the first do not fit even alone both say so; else only a node's worth is between them.
    room = sum(nodes * (free // mine) for free, nodes in shared)
    assert (bound < 0) == (exact < 0) == (room < count)
    if room >= count:
        assert bound - exact < 8 / theirs + 1


@pytest.mark.parametrize("decode", [5_000, 5_001])
def test_thousands_of_two_roles_are_refused_by_count_alone(decode: int) -> None:
    # 5,000 nodes of 8 take two of 3 GPUs each, though 10,001 × 3 GPUs would be there.
    kinds, shapes = Kinds(), Shapes()
    parts = kinds.parts({P: role("p", gpus=3), D: role("d", gpus=3)}, {P: 5_000, D: decode})
    shape = shapes.get(SubgroupClass.LOW, Terms(BOTH), (("H20", 8),))
    agents = [f"n{number:04d}" for number in range(5_000)]
    assert short(parts, [(shape, agents)]) is (decode > 5_000)
    assert hopeless(parts, Hand({((), shape): agents})) is (decode > 5_000)
