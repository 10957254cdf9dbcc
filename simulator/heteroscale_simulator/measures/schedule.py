"""Counts by the minute, and the cheapest way to have them: who is held from when to when.

Counts are cut into levels: level j of a role is one instance, needed in the minutes whose count is j
or more. An instance is held from its launch, ``lead`` before it is needed, to the end of its last
needed minute; where it is needed again sooner than another could be launched, it is kept. No way of
having the counts holds less (levels are nested, so whoever is kept is needed first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.capacity import Counts, Offer
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.traffic.load import Floats


@dataclass(frozen=True)
class Ladder:
    """Which GPU type a role's first, second, … instance takes: the cheapest until it is used up."""

    rungs: tuple[tuple[Offer, int | None], ...]
    """GPU types with the most instances of each; None: as many as are wanted."""

    @cached_property
    def height(self) -> int | None:
        """Most instances; None: as many as are wanted."""
        limits = [limit for _, limit in self.rungs]
        return None if None in limits else sum(limit or 0 for limit in limits)

    def endless(self) -> Ladder:
        """Return the same with as many of the last GPU type as are wanted."""
        return Ladder((*self.rungs[:-1], (self.rungs[-1][0], None)))

    def over(self, counts: Counts) -> NDArray[np.bool_]:
        """Return where ``counts`` are more than there are."""
        if self.height is None:
            return np.zeros(counts.shape, dtype=np.bool_)
        return counts > self.height

    def gpus(self, counts: Counts) -> Counts:
        """Return the GPUs that so many instances hold."""
        total, left = np.zeros_like(counts), counts
        for offer, limit in self.rungs:
            taken = left if limit is None else np.minimum(left, limit)
            total, left = total + taken * offer.gpus, left - taken
        return total + left * self.rungs[-1][0].gpus

    def offers(self, count: int) -> list[Offer]:
        """Return what the first ``count`` instances take; beyond the last rung its type goes on."""
        taken: list[Offer] = []
        for offer, limit in self.rungs:
            free = count - len(taken)
            taken += [offer] * (free if limit is None else min(free, limit))
        return taken + [self.rungs[-1][0]] * (count - len(taken))


@dataclass(frozen=True, slots=True)
class Held:
    """One instance of a schedule; times in seconds of the run."""

    role: Role
    gpu_type: str
    gpus: int
    level: int
    """From 1: the instance that is there when the count is at least this."""
    launched: float
    begin: float
    """In service from here."""
    end: float

    @property
    def gpu_hours(self) -> float:
        """GPU-hours from its launch to its end."""
        return self.gpus * (self.end - self.launched) / 3600


@dataclass(frozen=True)
class Schedule:
    """Counts in service by the minute, and who holds what for them."""

    edges: Floats
    """Where minutes begin and the last ends, in seconds; shape (minutes + 1,)."""
    counts: Mapping[Role, Counts]
    """In service, by minute, those that are kept through a gap included."""
    held: tuple[Held, ...]
    ratio: float | None = None
    """Prefill instances for each decode instance, where that was held."""
    short_seconds: float = 0.0
    """Seconds of minutes that need more than the fleet has."""

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of every instance, from its launch to its end."""
        return sum(one.gpu_hours for one in self.held)

    def gpu_types(self, role: Role) -> tuple[str, ...]:
        """Return the GPU types that a role's instances take, the first instance's first."""
        own = sorted((one for one in self.held if one.role is role), key=lambda one: one.level)
        return tuple(dict.fromkeys(one.gpu_type for one in own))

    def intervals(self, service: str) -> list[Interval]:
        """Return the same as a ledger's lines, so that it is billed as a run is."""
        lines: list[Interval] = []
        for index, one in enumerate(self.held):
            name = f"{one.role}-{one.level}-{index}"
            same = (service, name, one.role, one.gpu_type, one.gpus)
            if one.begin > one.launched:
                lines.append(Interval(*same, InstanceState.LAUNCHING, one.launched, one.begin))
            lines.append(Interval(*same, InstanceState.IN_SERVICE, one.begin, one.end))
        return lines


def runs(needed: Counts, level: int) -> list[tuple[int, int]]:
    """Return the stretches [first, last) of minutes whose count is ``level`` or more."""
    change = np.diff((needed >= level).astype(np.int8), prepend=0, append=0)
    return list(
        zip(np.flatnonzero(change > 0).tolist(), np.flatnonzero(change < 0).tolist(), strict=True)
    )


def schedule(
    edges: Floats,
    needed: Mapping[Role, Counts],
    ladders: Mapping[Role, Ladder],
    short_seconds: float = 0.0,
) -> Schedule:
    """Return the cheapest schedule that has ``needed`` instances of each role, roles apart."""
    held: list[Held] = []
    for role, counts in needed.items():
        for level, offer in enumerate(ladders[role].offers(int(counts.max(initial=0))), 1):
            stretches = _bridge([(edges[a], edges[b]) for a, b in runs(counts, level)], offer.lead)
            held += _instances(role, offer, level, stretches)
    return Schedule(edges, _counts(edges, needed, held), tuple(held), short_seconds=short_seconds)


def together(
    edges: Floats, decode: Counts, ratio: float, ladders: Mapping[Role, Ladder]
) -> Schedule:
    """Return the cheapest schedule with ⌈ratio × D⌉ prefill to D decode instances, D ≥ ``decode``.

    A decode instance and the prefill instances that come with it are kept or given back together.
    """
    held: list[Held] = []
    for level, (offer, extra) in enumerate(companions(ladders, ratio, int(decode.max())), 1):
        relaunch = offer.gpus * offer.lead + sum(one.gpus * one.lead for _, one in extra)
        worth = relaunch / (offer.gpus + sum(one.gpus for _, one in extra))
        stretches = _bridge([(edges[a], edges[b]) for a, b in runs(decode, level)], worth)
        held += _instances(Role.DECODE, offer, level, stretches)
        for rung, one in extra:
            held += _instances(Role.PREFILL, one, rung, stretches)
    counts = {Role.PREFILL: paired(decode, ratio), Role.DECODE: decode}
    return Schedule(edges, _counts(edges, counts, held), tuple(held), ratio)


def companions(
    ladders: Mapping[Role, Ladder], ratio: float, count: int
) -> list[tuple[Offer, list[tuple[int, Offer]]]]:
    """Return for each of ``count`` decode instances what it and the prefill that it brings take."""
    have = paired(np.arange(count + 1), ratio)
    prefill = ladders[Role.PREFILL].offers(int(have[-1]))
    return [
        (offer, [(rung + 1, prefill[rung]) for rung in range(have[level], have[level + 1])])
        for level, offer in enumerate(ladders[Role.DECODE].offers(count))
    ]


def paired(decode: Counts, ratio: float) -> Counts:
    """Return ⌈ratio × D⌉; a product that is whole but for rounding is whole."""
    prefill: Counts = np.ceil(ratio * decode - 1e-9).astype(np.int64)
    return prefill


def _bridge(stretches: Sequence[tuple[float, float]], worth: float) -> list[tuple[float, float]]:
    bridged: list[tuple[float, float]] = []
    for begin, end in stretches:
        if bridged and begin - bridged[-1][1] <= worth:
            bridged[-1] = (bridged[-1][0], end)
        else:
            bridged.append((begin, end))
    return bridged


def _instances(
    role: Role, offer: Offer, level: int, stretches: Sequence[tuple[float, float]]
) -> list[Held]:
    return [
        Held(
            *(role, offer.gpu_type, offer.gpus, level),
            launched=max(0.0, float(begin) - offer.lead),
            begin=float(begin),
            end=float(end),
        )
        for begin, end in stretches
    ]


def _counts(
    edges: Floats, needed: Mapping[Role, Counts], held: Sequence[Held]
) -> dict[Role, Counts]:
    counts: dict[Role, Counts] = {}
    for role, wanted in needed.items():
        change = np.zeros(len(wanted) + 1, dtype=np.int64)
        for one in held:
            if one.role is role:
                change[np.searchsorted(edges, one.begin)] += 1
                change[np.searchsorted(edges, one.end)] -= 1
        counts[role] = np.cumsum(change[:-1])
    return counts
