"""The limits that policies are held against: two oracles, and the static peak.

An oracle knows the load and the start-up lead, and steps as far as it likes, with whole instances and
at least one of each role; it holds the SLO by the capacities of ``capacity``, minute by minute.
``free`` sizes the roles apart; ``fixed`` keeps P = ⌈r D⌉ at the best r there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import Counts, Offer
from heteroscale_simulator.measures.fixed import best_ratio
from heteroscale_simulator.measures.minutes import Minutes
from heteroscale_simulator.measures.need import Case, decode_need, preferred, prefill_need
from heteroscale_simulator.measures.schedule import Ladder, Schedule, schedule, together
from heteroscale_simulator.traffic.load import Floats

ROLES = (Role.PREFILL, Role.DECODE)


@dataclass(frozen=True)
class Needs:
    """Whole instances that each minute needs, and the GPU types that they take."""

    edges: Floats
    """Where minutes begin and the last ends, in seconds."""
    counts: Mapping[Role, Counts]
    """At least one of each role; where the fleet is too small, all that it has."""
    ladders: Mapping[Role, Ladder]
    short: Floats
    """1 in minutes that need more than the fleet has."""

    @property
    def short_seconds(self) -> float:
        """Seconds of the minutes that need more than the fleet has."""
        return float((self.short * np.diff(self.edges)).sum())


def needs(case: Case) -> Needs:
    """Return what each minute of the load needs.

    Where both roles want one GPU type and it does not suffice, one of them is served first: the one
    with which the whole falls short least, then costs least.

    Raises:
        ValueError: a role has no GPU type that holds the SLO, or the fleet cannot hold one instance.

    """
    if case.fleet is None:
        return _needs(case, ROLES)
    both = [_needs(case, order) for order in (ROLES, ROLES[::-1])]
    return min(both, key=lambda one: (one.short_seconds, free(one).gpu_hours))


def free(wanted: Needs) -> Schedule:
    """Return the least GPU-hours, each role for itself."""
    return schedule(wanted.edges, wanted.counts, wanted.ladders, wanted.short_seconds)


def fixed(wanted: Needs) -> Schedule:
    """Return the least GPU-hours with ⌈r D⌉ prefill to D decode instances, at the best r.

    Where the fleet is too small for any ratio, it is reckoned with more of the last GPU types, and
    ``short_seconds`` counts the minutes that it does not have room for.
    """
    decode, ratio, fits = best_ratio(wanted.edges, wanted.counts, wanted.ladders)
    made = together(wanted.edges, decode, ratio, wanted.ladders)
    short = wanted.short > 0
    if not fits:
        for role, ladder in wanted.ladders.items():
            short |= ladder.over(made.counts[role])
    return replace(made, short_seconds=float((short * np.diff(wanted.edges)).sum()))


def static_peak(wanted: Needs) -> Schedule:
    """Return the counts that each role's peak minute needs, always."""
    peak = {role: np.full_like(count, count.max()) for role, count in wanted.counts.items()}
    return schedule(wanted.edges, peak, wanted.ladders, wanted.short_seconds)


def _needs(case: Case, order: Sequence[Role]) -> Needs:
    left = None if case.fleet is None else dict(case.fleet)
    counts: dict[Role, Counts] = {}
    ladders: dict[Role, Ladder] = {}
    short = np.zeros_like(case.minutes.seconds)
    for role in order:
        offers = preferred(case, role)
        others = preferred(case, order[1]) if role is order[0] else []
        ladder = _ladder(role, offers, _without_one(left, others))
        need = prefill_need if role is Role.PREFILL else decode_need
        counts[role], lacking = need(case, ladder)
        ladders[role] = ladder
        short = np.maximum(short, lacking)
        for offer in ladder.offers(int(counts[role].max())):
            if left is not None:
                left[offer.gpu_type] -= offer.gpus
    return Needs(case.minutes.edges, {r: counts[r] for r in ROLES}, ladders, short)


def _ladder(role: Role, offers: Sequence[Offer], left: Mapping[str, int] | None) -> Ladder:
    if left is None:
        return Ladder(((offers[0], None),))
    rungs = [(offer, left.get(offer.gpu_type, 0) // offer.gpus) for offer in offers]
    rungs = [(offer, limit) for offer, limit in rungs if limit > 0]
    if not rungs:
        names = ", ".join(offer.gpu_type for offer in offers)
        raise ValueError(
            f"the fleet has no room for one {role} instance on {names} beside the rest"
        )
    return Ladder(tuple(rungs))


def _without_one(
    left: Mapping[str, int] | None, offers: Sequence[Offer]
) -> Mapping[str, int] | None:
    """Return what is left when the other role, to be served next, has taken one instance."""
    if left is None:
        return None
    for offer in offers:
        if left.get(offer.gpu_type, 0) >= offer.gpus:
            return {**left, offer.gpu_type: left[offer.gpu_type] - offer.gpus}
    return left


__all__ = ["ROLES", "Case", "Minutes", "Needs", "fixed", "free", "needs", "static_peak"]
