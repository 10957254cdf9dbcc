"""The proportional law: how many instances a demand needs.

Every function never falls as demand grows.
"""

from __future__ import annotations

from heteroscale_coordinator.core.policy.supply import Supply
from heteroscale_coordinator.core.sums import Sum, reckon

_SLACK = 1e-9
_OUT = "present + ceil(max(0, asked - supply) / each - 1e-9)"
_IN = (
    "min(present, fewer + 1, max(1, fewer + ceil((asked / (1 - theta) - carried) / each - 1e-12)))"
)


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


def needed_in(demand: float, supply: Supply, tolerance: float, note: str = "") -> Sum:
    """Return the fewest instances that leave ``demand`` at or below 1 − θ of what remains.

    Aiming below 1 − θ rather than at 1 keeps the answer away from the scale-out threshold: demand
    must rise by (1 + θ) ÷ (1 − θ), 11 % by default, before anything is asked back. At least one.
    ``fewer`` is the most that is too few: they carry ``carried``, and the next one carries ``each``.
    """
    most = max(0, supply.count - 1)
    enough = (n for n in range(1, most + 1) if demand <= (1 - tolerance) * supply.least(n) + _SLACK)
    fewer = next(enough, most + 1) - 1
    return reckon(
        _IN,
        "instances",
        note,
        present=supply.count,
        fewer=fewer,
        asked=demand,
        theta=tolerance,
        carried=supply.least(fewer),
        each=supply.targets[fewer] if supply.targets else supply.next_target,
    )
