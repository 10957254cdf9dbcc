"""How full failure domains are when instances leave or change sides, against the service's spread limit.

``spread`` keeps the limits when something comes. What leaves makes the whole smaller, and a share of the
whole with it; what changes sides comes to its new role where it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.spread import domain_of, limit
from heteroscale_coordinator.core.placement.values import Standing
from heteroscale_coordinator.core.placement.view import FleetView
from heteroscale_coordinator.core.spec import SpreadSpec


@dataclass(slots=True)
class Crowds:
    """Instances that serve or will, by role and failure domain. What is withdrawn counts nowhere."""

    rule: SpreadSpec
    view: FleetView
    held: Counter[tuple[Role, str]]
    totals: Counter[Role]

    @classmethod
    def of(cls, rule: SpreadSpec, view: FleetView, standing: Iterable[Standing]) -> Crowds:
        """Return how full the domains are with all of the service that stands."""
        crowds = cls(rule, view, Counter(), Counter())
        for one in standing:
            if not one.withdrawn:
                crowds.add(one, one.role, 1)
        return crowds

    def domains(self, one: Standing) -> frozenset[str]:
        """Return the failure domains of an instance; of agents that the view does not know none."""
        nodes = (self.view.node(agent) for agent in one.agent_ids)
        return frozenset(domain_of(node, self.rule.level) for node in nodes if node is not None)

    def add(self, one: Standing, role: Role, count: int) -> None:
        """Count an instance in, or out with -1."""
        self.totals[role] += count
        self.held.update(dict.fromkeys(((role, domain) for domain in self.domains(one)), count))

    def fullest(self, one: Standing) -> int:
        """Return how many of its role stand in the fullest of its domains."""
        return max((self.held[one.role, domain] for domain in self.domains(one)), default=0)

    def over(self, one: Standing, leaving: Counts) -> int:
        """Return how many too many stand in the fullest of its domains, once ``leaving`` are gone."""
        left = self.totals[one.role] - leaving.get(one.role, 0)
        return max(0, self.fullest(one) - limit(self.rule, left)) if left > 0 else 0

    def broken_by(self, one: Standing, gaining: Role) -> str:
        """Return which limit is broken, or more so, when an instance takes another role; empty: none."""
        return self._by_one_more(one, gaining) or self._by_one_less(one)

    def _by_one_more(self, one: Standing, role: Role) -> str:
        # The limit grows at most with the whole, so it is only where the instance stands.
        total = self.totals[role] + 1
        for domain in sorted(self.domains(one)):
            count = self.held[role, domain] + 1
            if count - limit(self.rule, total) > max(0, count - 1 - limit(self.rule, total - 1)):
                return f"{count} of {total} {role} in {domain}"
        return ""

    def _by_one_less(self, one: Standing) -> str:
        # A share of one less may be less by one: too little where none leaves.
        total, here = self.totals[one.role] - 1, self.domains(one)
        least = limit(self.rule, total)
        if least == limit(self.rule, total + 1):
            return ""
        full = [
            (domain, count)
            for (role, domain), count in self.held.items()
            if role is one.role and count > least and domain not in here
        ]
        return f"{min(full)[1]} of {total} {one.role} in {min(full)[0]}" if full else ""


def keep_apart(
    candidates: Sequence[Standing], gaining: Role, crowds: Crowds | None
) -> tuple[list[Standing], str]:
    """Return who may take another role by the spread limit, and which limit forbids it where none may.

    Where a limit is only wished, all may when none keeps to it.
    """
    if crowds is None:
        return list(candidates), ""
    broken = {one.instance_id: crowds.broken_by(one, gaining) for one in candidates}
    good = [one for one in candidates if not broken[one.instance_id]]
    if good or not candidates:
        return good, ""
    if not crowds.rule.required:
        return list(candidates), ""
    return [], f"placement.spread: {broken[candidates[0].instance_id]}"
