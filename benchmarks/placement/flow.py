"""How near prefill and decode stand: the least KV traffic that must leave each level.

Every prefill instance sends as much as the others, every decode instance takes as much as the others,
and routers send within the nearest domain first. So the share that stays below a level is the sum, over
its domains, of min(share of the prefill there, share of the decode there): the same measure whether the
placer thinks in groups or not, and the best that any router could make of the placement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Spot

Places = Mapping[str, Mapping[str, str]]
"""A name for the domain of each agent, by level."""


def inside(spots: Iterable[Spot], domains: Mapping[str, str]) -> float:
    """Return the share of the KV traffic that can stay inside domains; 1 without both roles."""
    sides: dict[Role, Counter[str]] = {Role.PREFILL: Counter(), Role.DECODE: Counter()}
    for spot in spots:
        if spot.role in sides:
            sides[spot.role][domains[spot.ranks[0].agent_id]] += 1
    prefill, decode = sides.values()
    if not prefill or not decode:
        return 1.0
    return sum(
        min(count / prefill.total(), decode[name] / decode.total())
        for name, count in prefill.items()
    )


def crossing(spots: Iterable[Spot], domains: Mapping[str, str]) -> float:
    """Return how many of the P·D pairs' worth of traffic must leave the domains."""
    there = tuple(spots)
    prefill = sum(spot.role is Role.PREFILL for spot in there)
    decode = sum(spot.role is Role.DECODE for spot in there)
    return (1 - inside(there, domains)) * prefill * decode
