"""A choked prefill starves decode: falling decode tokens with a queue are overload, never a lull."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.policy import signals
from heteroscale_coordinator.core.policy.demand import Demand, Engines
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import Sum, reckon

MOST_SHORT = 4.0
"""A choked prefill asks for at most this multiple of what serves; more would trust a guess."""


@dataclass(frozen=True, slots=True)
class Choke:
    """How prefill starves decode: why in words, and the prefill instances that would not."""

    why: str
    prefill: int
    sum: Sum
    """``prefill`` as it was reckoned."""


def choked_prefill(
    engines: Engines, spec: ServiceSpec, demands: Mapping[Role, Demand]
) -> Choke | None:
    """Return how prefill starves decode; None when it does not.

    It does when a queue stood at prefill all through the short window, none at decode, and either
    decode serves less than it is asked for, or than a window ago; or prefill itself, saturated as
    its queue shows, serves less than it is asked for.
    """
    demand = demands[Role.DECODE]
    waiting = _standing_queue(engines, spec)
    if waiting is None or demand.value is None or demand.served is None:
        return None
    asked = max(demand.lasting or 0.0, _served_before(engines, spec))
    if demand.served < (1 - spec.policy.tolerance_in) * asked:
        short = f"while decode serves {demand.served:.0f} of {asked:.0f} tok/s"
    elif _short(demands[Role.PREFILL]) > 1 + spec.policy.tolerance_out:
        own = demands[Role.PREFILL]
        short = f"which serves {own.served or 0:.0f} of {own.value or 0:.0f} prompt tok/s"
    else:
        return None
    why = f"{waiting:.0f} requests wait at prefill, {short}"
    found = _prefill_needed(engines, demands, asked / max(demand.served, 1e-9))
    return Choke(why, int(found.value), found)


def _standing_queue(engines: Engines, spec: ServiceSpec) -> float | None:
    """Return the requests that stood at prefill all through the window; None if decode queues too."""
    lowest = signals.gauge_lowest("waiting", spec.policy.window_out)
    allowed = spec.policy.consent.queue_per_instance
    prefill, decode = (signals.total(engines[role], lowest) for role in (Role.PREFILL, Role.DECODE))
    if not prefill or prefill <= allowed * _carrying(engines, Role.PREFILL):
        return None
    if decode is None or decode > allowed * _carrying(engines, Role.DECODE):
        return None
    return prefill


def _served_before(engines: Engines, spec: ServiceSpec) -> float:
    length = spec.policy.window_out
    rate = signals.rate_of("generation_tokens", length, length)
    return signals.total(engines[Role.DECODE], rate) or 0.0


def _prefill_needed(engines: Engines, demands: Mapping[Role, Demand], starved: float) -> Sum:
    """Return how many would serve what is asked, backlog within its horizon included.

    What a saturated prefill serves is its measured capacity, whatever its target says, so it must
    grow as demand is to served; where that is unknown, as decode is starved. At least one more.
    """
    # Those that have just come are not in what was served: they would count for nothing twice.
    carrying = _carrying(engines, Role.PREFILL)
    count = sum(e.carrying and not e.young for e in engines[Role.PREFILL]) or carrying
    short = _short(demands[Role.PREFILL]) or starved
    return reckon(
        "max(carrying, settled + 1, ceil(settled * min(short, most) - 1e-9))",
        "prefill",
        "to be starved no more; short is what is asked for, as a multiple of what is served",
        carrying=carrying,
        settled=count,
        short=short,
        most=MOST_SHORT,
    )


def _short(demand: Demand) -> float:
    """Return what is asked for as a multiple of what is served; 0 is unknown."""
    return demand.value / demand.served if demand.value and demand.served else 0.0


def _carrying(engines: Engines, role: Role) -> int:
    return sum(engine.carrying for engine in engines[role])
