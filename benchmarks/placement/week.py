"""A week of a made-up population of services: who wants how many instances, hour by hour.

Every placer lives the same week. Services are drawn until the GPUs that they want on average are a share
of each type's; one that departs is followed by one alike, so the load stays what it is.
Sizes swing with the day and jitter with the hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi, sin
from typing import Literal

import numpy as np

from benchmarks.placement.cases import TEMPLATE
from heteroscale.words import Role
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec
from heteroscale_coordinator.core.topology import paths_of

HOUR = 3600.0
LOAD = 0.7
"""GPUs wanted on average, as a share of the sound ones of each type."""
LIFE = 72 * HOUR
"""A service's mean life."""
SIZES = (2.0, 24.0)
"""Decode instances of a service on average, evenly spread over the logarithm."""
LARGEST = 0.1
"""No service wants more than this share of a type's GPUs on average."""
RATIOS = (0.25, 0.5, 1.0)
"""Prefill for each decode instance."""
SWING = (0.1, 0.5)
"""How far the day moves a service from its mean."""
JITTER = 0.08
"""Standard deviation of an hour's size."""
Affinity = Literal["s1", "s2", "cluster"]
AFFINITIES: Sequence[tuple[Affinity, bool, float]] = (
    ("s1", True, 0.10),
    ("s1", False, 0.20),
    ("s2", True, 0.20),
    ("s2", False, 0.30),
    ("cluster", False, 0.20),
)
"""Level, required, share of the services."""
MIXED = 0.4
"""Share of services with prefill and decode on different GPU types."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A service for as long as it lives."""

    name: str
    roles: Mapping[Role, RoleSpec]
    placement: PlacementSpec
    size: float
    """Decode instances on average."""
    ratio: float
    swing: float
    phase: float

    @property
    def needs_high(self) -> bool:
        """Whether nothing but the high class will do: two types that must share an S1."""
        types = {spec.gpu_types for spec in self.roles.values()}
        return self.placement.required and self.placement.affinity == "s1" and len(types) > 1

    def mean(self, role: Role) -> float:
        """Return the instances of a role on average."""
        return max(1.0, self.size * (self.ratio if role is Role.PREFILL else 1.0))

    def counts(self, now: float, noise: float) -> dict[Role, int]:
        """Return the instances wanted at a moment."""
        day = 1 + self.swing * sin(2 * pi * (now / (24 * HOUR) + self.phase))
        decode = max(1, round(self.size * day * (1 + JITTER * noise)))
        return {Role.PREFILL: max(1, round(self.ratio * decode)), Role.DECODE: decode}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service wants so many instances from now on; none: it departs."""

    at: float
    tenant: Tenant
    counts: Mapping[Role, int]


def week(nodes: Sequence[NodeView], hours: int, seed: int) -> list[Wanted]:
    """Return what is wanted over ``hours`` on a fleet, in the order of time."""
    dice = np.random.default_rng([seed, 1])
    events: list[Wanted] = []
    for first in _population(nodes, dice):
        begin, generation, tenant = 0.0, 0, first
        while begin < hours * HOUR:
            end = begin + max(float(dice.exponential(LIFE)), HOUR)
            events.extend(_life(tenant, begin, min(end, hours * HOUR), dice))
            if end < hours * HOUR:
                events.append(Wanted(end, tenant, {}))
            begin, generation = end + HOUR / 2, generation + 1
            name = f"{first.name.partition('-')[0]}-{generation}"
            tenant = replace(first, name=name, phase=float(dice.random()))
    events.sort(key=lambda event: (event.at, event.tenant.name))
    return events


def _life(tenant: Tenant, begin: float, end: float, dice: np.random.Generator) -> Iterator[Wanted]:
    """Yield the hours of a service, each at its own minute."""
    now = begin or float(dice.uniform(0, HOUR))
    while now < end:
        yield Wanted(now, tenant, tenant.counts(now, float(dice.standard_normal())))
        now += HOUR


def _population(nodes: Sequence[NodeView], dice: np.random.Generator) -> Iterator[Tenant]:
    """Yield services until the GPUs of every type are spoken for."""
    budget = _Budget(nodes)
    number = 0
    while any(count > 0 for count in budget.left.values()):
        roles = _roles(budget.left, budget.widest, dice)
        tenant = budget.cut(_tenant(f"s{number:03d}-0", roles, dice))
        needs = {role: spec.gpus * tenant.mean(role) for role, spec in roles.items()}
        if not budget.spend(tenant, needs):
            # What no domain holds is no test of a placer: this one will do with less.
            loose = tenant.placement.model_copy(update={"required": False})
            tenant = replace(tenant, placement=loose)
        number += 1
        yield tenant


class _Budget:
    """GPUs that are still to be spoken for, in all and inside domains with several types."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        sound: Counter[str] = Counter()
        self.widest: dict[str, int] = {}
        """GPUs of the largest node, by type."""
        walls: dict[tuple[str, str], Counter[str]] = {}
        for node in nodes:
            if not node.usable:
                continue
            kind, free = node.gpu_types[0], len(node.free)
            sound[kind] += free
            self.widest[kind] = max(self.widest.get(kind, 0), len(node.gpu_types))
            paths = paths_of(node.topology)
            for level, path in (("s1", paths.s1), ("s2", paths.s2)):
                walls.setdefault((level, str(path)), Counter())[kind] += free
        self._sound = sound
        self.left = {kind: LOAD * count for kind, count in sorted(sound.items())}
        self._mixed: dict[tuple[str, frozenset[str]], dict[str, float]] = {}
        for (level, _), counts in walls.items():
            pair = frozenset(counts)
            room = self._mixed.setdefault((level, pair), dict.fromkeys(pair, 0.0))
            for kind, count in counts.items():
                room[kind] += LOAD * count

    def cut(self, tenant: Tenant) -> Tenant:
        """Return the service, no larger than a type can bear."""
        most = [
            LARGEST * self._sound[spec.gpu_types[0]] / spec.gpus for spec in tenant.roles.values()
        ]
        return replace(tenant, size=min(tenant.size, *most))

    def spend(self, tenant: Tenant, needs: Mapping[Role, float]) -> bool:
        """Take what a service needs on average; False: walls that it requires do not hold it."""
        kinds = {role: spec.gpu_types[0] for role, spec in tenant.roles.items()}
        for role, kind in kinds.items():
            self.left[kind] -= needs[role]
        pair = frozenset(kinds.values())
        if not tenant.placement.required or len(pair) == 1:
            return True
        room = self._mixed.get((tenant.placement.affinity, pair), {})
        if any(room.get(kind, 0.0) < needs[role] for role, kind in kinds.items()):
            return False
        for role, kind in kinds.items():
            room[kind] -= needs[role]
        return True


def _roles(
    left: Mapping[str, float], widest: Mapping[str, int], dice: np.random.Generator
) -> dict[Role, RoleSpec]:
    """Draw GPU types by what is left of them, and GPUs that a node of the type has."""
    kinds = [kind for kind, count in left.items() if count > 0]
    weights = np.array([left[kind] for kind in kinds])
    weights /= weights.sum()
    first = kinds[int(dice.choice(len(kinds), p=weights))]
    other = kinds[int(dice.choice(len(kinds), p=weights))] if dice.random() < MIXED else first
    return {
        role: RoleSpec(template=TEMPLATE, gpu_types=(kind,), gpus=_gpus(widest[kind], dice))
        for role, kind in ((Role.PREFILL, first), (Role.DECODE, other))
    }


def _gpus(most: int, dice: np.random.Generator) -> int:
    return int(dice.choice([gpus for gpus in (1, 2, 4, 8) if gpus <= most]))


def _tenant(name: str, roles: Mapping[Role, RoleSpec], dice: np.random.Generator) -> Tenant:
    choice = int(dice.choice(len(AFFINITIES), p=[share for *_, share in AFFINITIES]))
    level, required, _ = AFFINITIES[choice]
    return Tenant(
        name,
        roles,
        PlacementSpec(affinity=level, required=required),
        float(np.exp(dice.uniform(*np.log(SIZES)))),
        RATIOS[int(dice.choice(len(RATIOS)))],
        float(dice.uniform(*SWING)),
        float(dice.random()),
    )
