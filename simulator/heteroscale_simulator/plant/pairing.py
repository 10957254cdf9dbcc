"""Which decode engines fetch from which prefill engines, and how far that is.

Routers pair inside a deployment group as far as both roles can carry; what is left over crosses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.profiles import Distance

Weighted = Sequence[tuple[Seat, float]]
"""Seats, each with the share of its role's work that it carries."""


def distances(prefill: Weighted, decode: Weighted) -> dict[Distance, float]:
    """Return the share of transfers at each distance; all ``cluster`` where a role is missing."""
    if not prefill or not decode:
        return {"cluster": 1.0}
    found: dict[Distance, float] = defaultdict(float)
    spare_p: list[tuple[Seat, float]] = []
    spare_d: list[tuple[Seat, float]] = []
    senders, receivers = _groups(prefill), _groups(decode)
    for group in {**senders, **receivers}:
        ours, theirs = senders.get(group, []), receivers.get(group, [])
        gives, takes = _total(ours), _total(theirs)
        both = min(gives, takes)
        if both > 0:
            _add(found, ours, theirs, both / (gives * takes))
        spare_p += [(seat, w * (1 - both / gives)) for seat, w in ours if gives > both]
        spare_d += [(seat, w * (1 - both / takes)) for seat, w in theirs if takes > both]
    if spare_p and spare_d:
        _add(found, spare_p, spare_d, 1 / _total(spare_d))
    whole = sum(found.values())
    return {distance: share / whole for distance, share in found.items()}


def _groups(seats: Weighted) -> dict[str, list[tuple[Seat, float]]]:
    whole = _total(seats)
    result: dict[str, list[tuple[Seat, float]]] = defaultdict(list)
    for seat, weight in seats:
        result[seat.group].append((seat, weight / whole))
    return result


def _total(seats: Weighted) -> float:
    return sum(weight for _, weight in seats)


def _add(found: dict[Distance, float], ours: Weighted, theirs: Weighted, factor: float) -> None:
    """Add the pairs of ``ours`` × ``theirs`` by their nearest common domain.

    By counting who shares which names, never pair by pair: hundreds of instances are 10⁵ pairs.
    """

    def same(*levels: str) -> float:
        mine, yours = _by_name(ours, levels), _by_name(theirs, levels)
        return factor * sum(weight * yours.get(name, 0.0) for name, weight in mine.items())

    s0, s1, s2 = same("s0"), same("s1"), same("s2")
    s1 -= (s01 := same("s0", "s1"))
    s2 -= same("s0", "s2") + same("s1", "s2") - (same("s0", "s1", "s2") if s01 else 0.0)
    every = factor * _total(ours) * _total(theirs)
    found["s0"] += s0
    found["s1"] += s1
    found["s2"] += s2
    found["cluster"] += max(0.0, every - s0 - s1 - s2)


def _by_name(seats: Weighted, levels: Sequence[str]) -> Mapping[tuple[str, ...], float]:
    result: dict[tuple[str, ...], float] = defaultdict(float)
    for seat, weight in seats:
        names = tuple(seat.domains.get(level, "") for level in levels)
        if all(names):
            result[names] += weight
    return result
