"""Second thoughts: others of a cycle are placed anew, so that one more finds a place.

Who has found none goes first. Whom that costs its place goes before all the next time, and so on, until
whoever has least choice stands in front (squeaky wheel optimisation, Joslin and Clements 1999). An equal
may land anywhere. A higher priority never pays: it keeps its level of affinity, its GPU types and its
sub-clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from heteroscale_coordinator.core.placement.values import Ask, Placed
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS

REACH = 12
"""So many others are placed anew, at most, for one request without a place: the last before it."""
EACH = 60
"""So many places are sought anew for one request, at most."""
MOVES = 400
"""So many are in a whole cycle, at most: what it takes stays far below the rest."""


class Attempt(NamedTuple):
    """What came of one order."""

    stuck: int | None
    """Who lost by it; None: nobody, and it is done."""
    sought: int
    """How many places were sought."""


def in_some_order(
    first: int, others: Sequence[int], attempt: Callable[[Sequence[int]], Attempt], most: int
) -> Iterator[int]:
    """Try orders until one places all, and yield how many places each sought, ``most`` in all."""
    order: tuple[int, ...] = (first, *others)
    tried: set[tuple[int, ...]] = set()
    left = min(EACH, most)
    while order not in tried and len(order) <= left:
        tried.add(order)
        found = attempt(order)
        left -= found.sought
        yield found.sought
        if found.stuck is None:
            break
        order = (found.stuck, *(number for number in order if number != found.stuck))


def types_of(asks: Iterable[Ask]) -> frozenset[str]:
    """Return the GPU types that asks could use; none: any."""
    wanted = [ask.roles[role].gpu_types for ask in asks for role, n in ask.delta.items() if n > 0]
    return frozenset(chain(*wanted)) if all(wanted) else frozenset()


def no_worse(placed: Placed, before: Placed) -> bool:
    """Return whether a place is as good as another for whoever asked: affinity, taints, GPU types."""
    lost = zip(placed.wishes_lost, before.wishes_lost, strict=True)
    level = AFFINITY_LEVELS.index
    return level(placed.affinity_met) <= level(before.affinity_met) and all(a <= b for a, b in lost)
