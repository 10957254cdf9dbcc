"""Spread limits: at most so many of a role in one failure domain.

The step is placed as ever first; only where that breaks a limit it is placed again, whole, then in
balanced units, then instance by instance, each time with the domains shut that are full. Each part is a
placement of its own, with what the parts before it took deducted. Sound, not exhaustive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
)
from heteroscale_coordinator.core.spec import SpreadSpec
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, paths_of

_TINY = 1e-9


class Search(Protocol):
    """Places an ask, with some nodes shut (and why), and some GPUs of nodes taken already."""

    def __call__(
        self,
        ask: Ask,
        standing: Sequence[Standing],
        /,
        shut: Mapping[str, str],
        taken: Mapping[str, frozenset[int]],
    ) -> Placed | Infeasible:
        """Return the place, or why there is none."""


def spread(
    ask: Ask, nodes: Iterable[NodeView], standing: Sequence[Standing], search: Search
) -> Placed | Infeasible:
    """Return a place for the ask inside its spread limits, or beyond them where they are only wished."""
    plain = search(ask, standing, {}, {})
    rule = ask.placement.spread
    if rule is None or isinstance(plain, Infeasible):
        return plain
    limits = _Limits.of(ask, rule, nodes, standing)
    if not limits.broken_by(plain.spots):
        return replace(plain, reason=f"{plain.reason}; {limits.text}") if plain.spots else plain
    failed: Infeasible | None = None
    for units in _cuts(ask.delta):
        found = _one_by_one(ask, units, standing, limits, search)
        if isinstance(found, Placed):
            return replace(found, reason=f"{found.reason}; {limits.text}")
        failed = found
    if rule.required:
        reasons = failed.reasons if failed else ()
        return Infeasible((f"spread: {limits.text} leaves no room", *reasons))
    over = limits.broken_by(plain.spots)
    return replace(
        plain, reason=f"{plain.reason}; {over}: the spread over {rule.level} has no room"
    )


def _cuts(delta: Counts) -> Iterator[list[Counts]]:
    """Yield the ways to cut a step: whole, in balanced units, and pairs of one each with single ones."""
    counts = {role: count for role, count in delta.items() if count > 0}
    yield [counts]
    pieces = min(counts.values())
    if pieces > 1 and len(counts) > 1:
        shares = {role: divmod(count, pieces) for role, count in counts.items()}
        yield [
            {role: each + (number < extra) for role, (each, extra) in shares.items()}
            for number in range(pieces)
        ]
    singles = [{role: 1} for role, count in counts.items() for _ in range(count - pieces)]
    yield [*[dict.fromkeys(counts, 1)] * pieces, *singles]


def _one_by_one(
    ask: Ask,
    units: Sequence[Counts],
    standing: Sequence[Standing],
    limits: _Limits,
    search: Search,
) -> Placed | Infeasible:
    """Place unit after unit; what one took is taken for the next, and its instances stand."""
    spots: list[Spot] = []
    parts: list[Placed] = []
    for unit in units:
        taken: dict[str, frozenset[int]] = {}
        for spot in spots:
            for rank in spot.ranks:
                held = taken.get(rank.agent_id, frozenset())
                taken[rank.agent_id] = held | frozenset(rank.gpu_indices)
        stand = [*standing, *(_standing(number, spot) for number, spot in enumerate(spots))]
        found = search(replace(ask, delta=unit), stand, limits.full(unit, spots), taken)
        if isinstance(found, Infeasible):
            return found
        parts.append(found)
        spots += found.spots
    widest = max((AFFINITY_LEVELS.index(part.affinity_met) for part in parts), default=0)
    reason = "; ".join(dict.fromkeys(part.reason for part in parts))
    return Placed(tuple(spots), reason, AFFINITY_LEVELS[widest], parts[0].rejected)


def _standing(number: int, spot: Spot) -> Standing:
    agents = tuple(rank.agent_id for rank in spot.ranks)
    name = f"placed just now {number}"
    return Standing(name, spot.role, agents, spot.group, gpu_type=spot.gpu_type)


@dataclass(frozen=True, slots=True)
class _Limits:
    """How many of each role may stand in one domain, and how many do."""

    rule: SpreadSpec
    most: Counts
    totals: Counts
    domains: Mapping[str, str]
    """Failure domain by agent id."""
    held: Mapping[tuple[Role, str], int]

    @classmethod
    def of(
        cls, ask: Ask, rule: SpreadSpec, nodes: Iterable[NodeView], standing: Iterable[Standing]
    ) -> _Limits:
        domains = {node.agent_id: domain_of(node, rule.level) for node in nodes}
        held: Counter[tuple[Role, str]] = Counter()
        totals = Counter({role: n for role, n in ask.delta.items() if n > 0})
        for one in standing:
            if not one.withdrawn:
                totals[one.role] += 1
                held.update((one.role, d) for d in _touched(one.agent_ids, domains))
        asked = [role for role, n in ask.delta.items() if n > 0]
        most = {role: limit(rule, totals[role]) for role in asked}
        return cls(rule, most, totals, domains, held)

    @property
    def text(self) -> str:
        each = ", ".join(f"{n} of {self.totals[role]} {role}" for role, n in self.most.items())
        return f"at most {each} in one {self.rule.level}"

    def broken_by(self, spots: Sequence[Spot]) -> str:
        """Return which limit these spots break, in words; empty: none."""
        counts = self._with(spots)
        for role, most in self.most.items():
            for domain in sorted({d for r, d in counts if r is role}):
                if counts[role, domain] > max(most, self.held.get((role, domain), 0)):
                    return f"{counts[role, domain]} of {self.totals[role]} {role} in {domain}"
        return ""

    def full(self, unit: Counts, spots: Sequence[Spot]) -> dict[str, str]:
        """Return the agents of the domains that could not hold all of ``unit``, and why."""
        counts = self._with(spots)
        shut = {}
        for agent, domain in self.domains.items():
            for role, n in unit.items():
                if counts[role, domain] + n > self.most[role]:
                    has = f"{domain} has {counts[role, domain]} of at most {self.most[role]} {role}"
                    shut[agent] = has
        return shut

    def _with(self, spots: Iterable[Spot]) -> Counter[tuple[Role, str]]:
        counts = Counter(self.held)
        for spot in spots:
            agents = [rank.agent_id for rank in spot.ranks]
            counts.update((spot.role, d) for d in _touched(agents, self.domains))
        return counts


def limit(rule: SpreadSpec, total: int) -> int:
    """Return how many of ``total`` instances of a role may stand in one domain, at least one."""
    if isinstance(rule.most, int):
        return rule.most
    return max(1, ceil(rule.most * total - _TINY))


def domain_of(node: NodeView, level: str) -> str:
    """Return the name of a node's failure domain: its host, or its whole path at that level.

    Nodes that do not name the level share the next one up, for nothing says that they are apart.
    """
    if level == "node":
        return node.hostname or node.agent_id
    paths = paths_of(node.topology)
    path = getattr(paths, level) or (paths.s2 if level == "s1" else None) or paths.cluster
    return "/".join(filter(None, path)) or "fleet"


def _touched(agents: Iterable[str], domains: Mapping[str, str]) -> set[str]:
    return {domains[agent] for agent in agents if agent in domains}
