"""The proportional law: how many instances a demand needs.

Every function never falls as demand grows.
"""

from __future__ import annotations

from heteroscale_coordinator.core.policy.supply import Supply
from heteroscale_coordinator.core.sums import Sum, reckon

_SLACK = 1e-9
_OUT = "present + ceil(max(0, asked - supply) / each - 1e-9)"


def needed_out(demand: float, supply: Supply, note: str = "") -> Sum:
    """Return the instances that carry ``demand`` at their targets, never fewer than there are."""
    return reckon(
        _OUT,
        "instances",
        note,
        present=supply.count,
        asked=demand,
        supply=supply.total,
        each=supply.next_target,
    )


def needed_in(demand: float, supply: Supply, tolerance: float) -> int:
    """Return the fewest instances that leave ``demand`` at or below 1 − θ of what remains.

    Aiming below 1 − θ rather than at 1 keeps the answer away from the scale-out threshold: demand
    must rise by (1 + θ) ÷ (1 − θ), 22 % by default, before anything is asked back. At least one.
    """
    for count in range(1, supply.count):
        if demand <= (1 - tolerance) * supply.least(count) + _SLACK:
            return count
    return supply.count
