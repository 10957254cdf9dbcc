"""Spread limits: at most so many of a role in one failure domain.

The step is placed as ever first; only where that breaks a limit it is placed again, whole, then in
balanced units, then instance by instance, each time with the domains shut that are full. Each part is a
placement of its own, with what the parts before it took deducted. Sound, not exhaustive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import ceil
from typing import TYPE_CHECKING, Protocol

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
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, paths_of, sub_cluster_of

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.view import FleetView

_TINY = 1e-9


class Search(Protocol):
    """Places an ask in the view as it is now."""

    def __call__(self, ask: Ask, standing: Sequence[Standing], /) -> Placed | Infeasible:
        """Return the place, or why there is none."""


def spread(
    ask: Ask, view: FleetView, standing: Sequence[Standing], search: Search
) -> Placed | Infeasible:
    """Return a place for the ask inside its spread limits, or beyond them where they are only wished."""
    plain = search(ask, standing)
    rule = ask.placement.spread
    if rule is None or isinstance(plain, Infeasible):
        return plain
    limits = _Limits.of(ask, rule, view, standing)
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
    stand, counts, view = list(standing), Counter(limits.held), limits.view
    spots: list[Spot] = []
    parts: list[Placed] = []
    with ExitStack() as taken:
        for unit, alike in groupby(units):
            # Domains only fill up, so for units alike what is shut stays shut.
            looked_at: Iterable[str] = limits.agents()
            with ExitStack() as shut:
                for _ in alike:
                    shut.enter_context(view.less(limits.full(unit, counts, looked_at), {}))
                    found = search(replace(ask, delta=unit), stand)
                    if isinstance(found, Infeasible):
                        return found
                    taken.enter_context(view.less({}, _gpus(found.spots)))
                    stand += (_standing(n, spot) for n, spot in enumerate(found.spots, len(spots)))
                    touched = limits.touched(found.spots)
                    looked_at = {domain for _, domain in touched}
                    counts.update(touched)
                    parts.append(found)
                    spots += found.spots
    widest = max((AFFINITY_LEVELS.index(part.affinity_met) for part in parts), default=0)
    reason = "; ".join(dict.fromkeys(part.reason for part in parts))
    shunned, off_type = (
        sum(lost) for lost in zip(*(one.wishes_lost for one in parts), strict=True)
    )
    return Placed(
        tuple(spots), reason, AFFINITY_LEVELS[widest], parts[0].rejected, (shunned, off_type)
    )


def _gpus(spots: Iterable[Spot]) -> dict[str, frozenset[int]]:
    """Return the GPUs that spots take, by agent."""
    found: dict[str, frozenset[int]] = {}
    for spot in spots:
        for rank in spot.ranks:
            had = found.get(rank.agent_id, frozenset())
            found[rank.agent_id] = had | frozenset(rank.gpu_indices)
    return found


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
    view: FleetView
    held: Mapping[tuple[Role, str], int] = field(default_factory=dict)
    _domains: dict[str, str] = field(default_factory=dict)
    _agents: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, ask: Ask, rule: SpreadSpec, view: FleetView, standing: Iterable[Standing]
    ) -> _Limits:
        totals = Counter({role: n for role, n in ask.delta.items() if n > 0})
        asked = tuple(totals)
        stays = [one for one in standing if not one.withdrawn]
        totals.update(one.role for one in stays)
        limits = cls(rule, {role: limit(rule, totals[role]) for role in asked}, totals, view)
        held = Counter(
            (one.role, domain) for one in stays for domain in limits.domains(one.agent_ids)
        )
        return replace(limits, held=held)

    def domains(self, agents: Iterable[str]) -> set[str]:
        """Return the failure domains of agents; those that the view does not know have none."""
        found = set()
        for agent in agents:
            domain = self._domains.get(agent)
            if domain is None and (node := self.view.node(agent)) is not None:
                domain = self._domains[agent] = domain_of(node, self.rule.level)
            if domain is not None:
                found.add(domain)
        return found

    def agents(self) -> Mapping[str, Sequence[str]]:
        """Return the agents of each failure domain; the whole fleet is read for it, once."""
        if not self._agents:
            for node in self.view:
                domain = domain_of(node, self.rule.level)
                self._agents.setdefault(domain, []).append(node.agent_id)
        return self._agents

    @property
    def text(self) -> str:
        each = ", ".join(f"{n} of {self.totals[role]} {role}" for role, n in self.most.items())
        return f"at most {each} in one {self.rule.level}"

    def broken_by(self, spots: Sequence[Spot]) -> str:
        """Return which limit these spots break, in words; empty: none."""
        counts = Counter(self.held)
        counts.update(self.touched(spots))
        for role, most in self.most.items():
            for domain in sorted({d for r, d in counts if r is role}):
                if counts[role, domain] > max(most, self.held.get((role, domain), 0)):
                    return f"{counts[role, domain]} of {self.totals[role]} {role} in {domain}"
        return ""

    def full(
        self, unit: Counts, counts: Mapping[tuple[Role, str], int], domains: Iterable[str]
    ) -> dict[str, str]:
        """Return the agents of those domains that could not hold all of ``unit``, and why."""
        shut = {}
        for domain in domains:
            for role, n in unit.items():
                has, most = counts.get((role, domain), 0), self.most[role]
                if has + n > most:
                    why = f"{domain} has {has} of at most {most} {role}"
                    shut.update(dict.fromkeys(self.agents()[domain], why))
        return shut

    def touched(self, spots: Iterable[Spot]) -> list[tuple[Role, str]]:
        """Return role and domain of each spot; several where its ranks are in several."""
        return [
            (spot.role, domain)
            for spot in spots
            for domain in self.domains(rank.agent_id for rank in spot.ranks)
        ]


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
    if level == "subCluster":
        return sub_cluster_of(node.topology) or "fleet"
    paths = paths_of(node.topology)
    path = getattr(paths, level) or (paths.s2 if level == "s1" else None) or paths.cluster
    return "/".join(filter(None, path)) or "fleet"
