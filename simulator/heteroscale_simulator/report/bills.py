"""What the limits of a study hold and cost, over all of its services; the same for every policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale_simulator.report.study import Study

LIMITS = (
    ("static peak", "static_peak"),
    ("oracle, fixed ratio", "fixed"),
    ("oracle, free ratio", "free"),
)
ENDS = ("static_peak", "free")


@dataclass(frozen=True, slots=True)
class Bill:
    """One limit's."""

    name: str
    schedule: str
    """As ``Limits`` calls it."""
    gpu_hours: float
    cost: float
    saved: float | None
    """Share of static peak's GPU-hours."""
    of_oracle: float | None
    """The same as a share of what the free oracle saves."""


def bills(study: Study) -> Sequence[Bill]:
    """Return the bill of each limit, dearest first; none where a service has no limits."""
    against = [one.limits for one in study.runs[0].services] if study.runs else []
    known = [limits for limits in against if limits is not None]
    if not known or len(known) < len(against):
        return []
    most, least = (sum(getattr(one, name).gpu_hours for one in known) for name in ENDS)
    found = []
    for name, schedule in LIMITS:
        held = [one for limits in known for one in getattr(limits, schedule).held]
        hours = sum(one.gpu_hours for one in held)
        cost = sum(one.gpu_hours * study.prices.get(one.gpu_type, 0.0) for one in held)
        gain = most - hours
        found.append(
            Bill(
                *(name, schedule, hours, cost),
                saved=gain / most if most > 0 else None,
                of_oracle=gain / (most - least) if most > least else None,
            )
        )
    return found
