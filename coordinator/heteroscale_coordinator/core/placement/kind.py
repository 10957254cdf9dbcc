"""Kinds: what a rank of a role asks of a node, whatever the service it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from heteroscale.taints import TaintEffect, Taints
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.spec import RoleSpec, Toleration

Tolerations = tuple[Toleration, ...]


class Terms(NamedTuple):
    """On what terms a node takes instances."""

    templates: frozenset[str]
    """Launch templates that its agent allows."""
    taints: Taints = ()


def intolerable(taints: Taints, tolerations: Tolerations) -> Taints:
    """Return the taints that keep away, or have leave, whoever tolerates no more than this."""
    return tuple(
        taint
        for taint in taints
        if taint.effect is not TaintEffect.PREFER_NO_SCHEDULE
        and not any(one.tolerates(taint) for one in tolerations)
    )


def unwelcome(agent_id: str, taints: Taints, tolerations: Tolerations) -> str:
    """Return the taint that has whoever tolerates no more leave a node, in words; empty: none."""
    away = (
        taint
        for taint in intolerable(taints, tolerations)
        if taint.effect is TaintEffect.NO_EXECUTE
    )
    return next((f"{agent_id} carries the taint {taint}" for taint in away), "")


def disliked(taints: Taints, tolerations: Tolerations) -> bool:
    """Return whether a taint asks whoever tolerates no more than this to go elsewhere if it can."""
    return any(
        taint.effect is TaintEffect.PREFER_NO_SCHEDULE
        and not any(one.tolerates(taint) for one in tolerations)
        for taint in taints
    )


class Kind:
    """One object for each kind of a registry, so that kinds are compared and hashed by identity."""

    __slots__ = ("_order", "gpu_types", "gpus", "ranks", "template", "tolerations")

    def __init__(
        self,
        template: str,
        gpu_types: tuple[str, ...],
        gpus: int,
        ranks: int,
        tolerations: Tolerations = (),
    ) -> None:
        self.template, self.gpu_types, self.gpus, self.ranks = template, gpu_types, gpus, ranks
        self.tolerations = tolerations
        self._order = {name: place for place, name in reversed(list(enumerate(gpu_types)))}

    def admitted(self, terms: Terms) -> bool:
        """Return whether a node of these terms takes it at all."""
        return self.template in terms.templates and not intolerable(terms.taints, self.tolerations)

    def shunned(self, terms: Terms) -> bool:
        """Return whether such a node would rather not, so that it is the last resort."""
        return disliked(terms.taints, self.tolerations)

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
        self._known: dict[tuple[str, tuple[str, ...], int, int, Tolerations], Kind] = {}

    def of(self, spec: RoleSpec, tolerations: Tolerations = ()) -> Kind:
        """Return the kind of a role's ranks, of a service that tolerates these taints."""
        key = spec.template, spec.gpu_types, spec.gpus, spec.ranks, tolerations
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Kind(*key)
        return found

    def parts(
        self, roles: Mapping[Role, RoleSpec], counts: Counts, tolerations: Tolerations = ()
    ) -> Parts:
        """Return the parts of a step, the most constrained first: few types, then many GPUs."""
        found = [
            Part(role, self.of(roles[role], tolerations), n) for role, n in counts.items() if n > 0
        ]
        return tuple(sorted(found, key=_constrained_first))


def _constrained_first(part: Part) -> tuple[float, int, str]:
    kind = part.kind
    return (len(kind.gpu_types) or float("inf"), -kind.gpus * kind.ranks, part.role)


def gpus_of(parts: Parts) -> int:
    """Return the GPUs that all parts take."""
    return sum(part.gpus for part in parts)
