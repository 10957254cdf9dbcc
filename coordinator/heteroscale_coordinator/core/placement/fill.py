"""Many equal units at once: as many into the best domain as it would win one after the other.

A step of tens of thousands of instances is cut into as many balanced units. Placed one by one they would
go to the same domain again and again, each time with the whole domain packed anew.
"""

from __future__ import annotations

from collections.abc import Callable

from heteroscale_coordinator.core.placement.feasible import room
from heteroscale_coordinator.core.placement.ground import Ground
from heteroscale_coordinator.core.placement.kind import gpus_of
from heteroscale_coordinator.core.placement.rank import (
    NO_FIT,
    Candidate,
    Order,
    Want,
    order_of,
)

STRIDES = 256
"""Of a step of more units, several go to a domain at once even where it wins the first alone."""


def fill(
    ground: Ground, want: Want, best: tuple[Order, Candidate], before: Candidate | None, left: int
) -> tuple[int, Candidate]:
    """Return how many of ``left`` equal units go to the best domain now, and its part then.

    ``best``: it with one unit on ``before``, its part so far. A domain that the first unit opens is the
    best for the next ones too, for nothing changed elsewhere, as long as each costs as little as the
    first: that is the same as one by one. Else it is one, of a large step a stride.
    """
    order, first = best
    limit = min(left, _most(ground, want, first, before))
    if limit > 1 and not (order.opens and _wins_again(ground, want, best)):
        limit = min(limit, max(1, ground.units // STRIDES))
    had = before.fit if before else NO_FIT
    found = {1: first}

    def as_cheap(units: int) -> bool:
        there = _with(ground, want, first, units - 1)
        if there is None:
            return False
        found[units] = there
        # No unit costs less than the first, so if they cost no more together, each costs as much.
        fit, cost = there.fit, (order.shunned, order.off_type, order.high)
        taken = fit.shunned - had.shunned, fit.off_type - had.off_type, fit.high - had.high
        fields = 2 if want.snug else 3
        return taken[:fields] <= tuple(units * one for one in cost[:fields])

    units = limit if limit == 1 or as_cheap(limit) else _last(limit, as_cheap)
    return units, found[units]


def _wins_again(ground: Ground, want: Want, best: tuple[Order, Candidate]) -> bool:
    order, first = best
    second = _with(ground, want, first, 1)
    return second is not None and order_of(want, second, first) <= order


def _with(ground: Ground, want: Want, first: Candidate, more: int) -> Candidate | None:
    """Return a domain's part with so many units more; None: there is no room."""
    counts = {role: first.counts[role] + more * n for role, n in want.counts.items()}
    fit = ground.fit(first.domain, ground.parts(counts))
    return None if fit is None else Candidate(first.domain, counts, fit, first.kin)


def _most(ground: Ground, want: Want, first: Candidate, before: Candidate | None) -> int:
    """Return how many units the domain's counters allow; never too few."""
    cell, parts = first.domain, ground.parts(want.counts)
    had = before.counts if before else {}
    each = (
        (room(part.kind, cell.shapes.items()) // part.kind.ranks - had.get(part.role, 0))
        // part.instances
        for part in parts
    )
    together = (cell.room - (before.fit.gpus if before else 0)) // gpus_of(parts)
    return max(1, min(together, *each))


def _last(failed: int, holds: Callable[[int], bool]) -> int:
    """Return the last number below ``failed`` for which it holds; it does for 1."""
    low, high = 1, failed
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
