"""Kinds: what a rank of a role asks of a node, whatever the service it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.spec import RoleSpec


class Kind:
    """One object for each kind of a registry, so that kinds are compared and hashed by identity."""

    __slots__ = ("_order", "gpu_types", "gpus", "ranks", "template")

    def __init__(self, template: str, gpu_types: tuple[str, ...], gpus: int, ranks: int) -> None:
        self.template, self.gpu_types, self.gpus, self.ranks = template, gpu_types, gpus, ranks
        self._order = {name: place for place, name in reversed(list(enumerate(gpu_types)))}

    def preference(self, gpu_type: str) -> int | None:
        """Return the place of a type in the order wished, 0 the best; None: not wanted at all."""
        return self._order.get(gpu_type) if self.gpu_types else 0


class Part(NamedTuple):
    """So many instances of a role."""

    role: Role
    kind: Kind
    instances: int

    @property
    def gpus(self) -> int:
        """Return the GPUs that they take."""
        return self.instances * self.kind.ranks * self.kind.gpus


Parts = tuple[Part, ...]
"""The parts of a step, the most constrained first."""


class Kinds:
    """A registry: equal wishes give the same object."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[str, ...], int, int], Kind] = {}

    def of(self, spec: RoleSpec) -> Kind:
        """Return the kind of a role's ranks."""
        key = spec.template, spec.gpu_types, spec.gpus, spec.ranks
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Kind(*key)
        return found

    def parts(self, roles: Mapping[Role, RoleSpec], counts: Counts) -> Parts:
        """Return the parts of a step, the most constrained first: few types, then many GPUs."""
        found = [Part(role, self.of(roles[role]), n) for role, n in counts.items() if n > 0]
        return tuple(sorted(found, key=_constrained_first))


def _constrained_first(part: Part) -> tuple[float, int, str]:
    kind = part.kind
    return (len(kind.gpu_types) or float("inf"), -kind.gpus * kind.ranks, part.role)


def gpus_of(parts: Parts) -> int:
    """Return the GPUs that all parts take."""
    return sum(part.gpus for part in parts)
