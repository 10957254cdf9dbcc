"""The facts of one placement: the tree, the seats, the kin, and what has been tried on them.

A search deducts virtually and rolls back; nothing here changes but the memory of what was tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.feasible import Bench, seat_nodes, shortfall
from heteroscale_coordinator.core.placement.pack import Patience, Seat, pack
from heteroscale_coordinator.core.placement.rank import Candidate, kin_in, peer_of
from heteroscale_coordinator.core.placement.values import Ask, NodeView, Standing
from heteroscale_coordinator.core.topology import Domain, Path, Tree

_INNER = {Role.ATTENTION, Role.FFN}


@dataclass(frozen=True, slots=True)
class Ground:
    """What a placement stands on. Made by ``survey``."""

    ask: Ask
    nodes: Mapping[str, NodeView]
    standing: Sequence[Standing]
    tree: Tree
    benches: Mapping[str, Bench]
    totals: Counts
    """Instances of the service once the whole step stands."""
    patience: Patience = field(default_factory=Patience)
    _fits: dict[tuple[str, Path, frozenset[tuple[Role, int]]], tuple[Seat, ...] | None] = field(
        default_factory=dict
    )
    _kin: dict[tuple[str, Path], Counts] = field(default_factory=dict)

    def candidates(
        self, level: str, unit: Counts, parts: Mapping[Path, Candidate]
    ) -> Iterator[Candidate]:
        """Yield the domains that can hold ``unit`` on top of what ``parts`` already puts there."""
        for domain in self.tree.domains(level):
            if self.peers_missing(domain) is None:
                had = parts.get(domain.path)
                counts = _add(had.counts, unit) if had else unit
                seats = self.fit(domain, counts)
                if seats is not None:
                    yield Candidate(domain, counts, seats, self.kin(domain))

    def fit(self, domain: Domain, counts: Counts) -> tuple[Seat, ...] | None:
        """Return seats for ``counts`` in one domain, or None; the same question is searched once."""
        key = (domain.level, domain.path, frozenset(counts.items()))
        if key not in self._fits:
            benches = self.seats_in(domain)
            hopeless = shortfall(self.ask, counts, self.nodes_in(domain), benches) is not None
            self._fits[key] = None if hopeless else self._seated(domain.level, counts, benches)
        return self._fits[key]

    def _seated(
        self, level: str, counts: Counts, benches: Sequence[Bench]
    ) -> tuple[Seat, ...] | None:
        """Return seats for ``counts``; in an S2, attention and ffn in one S1 of it (paper §4)."""
        roles = self.ask.roles
        if level != "s2" or not set(counts) >= _INNER:
            return pack(roles, counts, benches, self.patience)
        inner = {role: n for role, n in counts.items() if role in _INNER}
        others = {role: n for role, n in counts.items() if role not in _INNER}
        for near in sorted({bench.near for bench in benches}):
            beside = [bench for bench in benches if bench.near == near]
            first = pack(roles, inner, beside, self.patience)
            rest = (
                pack(roles, others, self._without(first, benches), self.patience) if first else None
            )
            if first is not None and rest is not None:
                return (*first, *rest)
        return None

    def _without(self, seats: Sequence[Seat], benches: Sequence[Bench]) -> list[Bench]:
        """Return the benches less the GPUs that are taken on them."""
        taken = Counter[tuple[str, str]]()
        for seat in seats:
            taken[seat.agent_id, seat.gpu_type] += self.ask.roles[seat.role].gpus
        return [
            replace(
                bench,
                free={
                    kind: indices[taken[bench.agent_id, kind] :]
                    for kind, indices in bench.free.items()
                },
            )
            for bench in benches
        ]

    def kin(self, domain: Domain) -> Counts:
        """Count the service's instances in a domain that are not on their way out."""
        key = (domain.level, domain.path)
        if key not in self._kin:
            self._kin[key] = kin_in(domain, self.standing)
        return self._kin[key]

    def peers_missing(self, domain: Domain) -> Role | None:
        """Return the role that a lone-role ask would miss here, while it stands elsewhere."""
        role, *others = self.ask.delta
        peer = peer_of(role, self.ask.roles)
        if others or peer is None or self.kin(domain).get(peer):
            return None
        known = self.nodes.keys()
        placed = any(
            one.role is peer and not one.withdrawn and known >= set(one.agent_ids)
            for one in self.standing
        )
        return peer if placed else None

    def seats_in(self, domain: Domain) -> list[Bench]:
        """Return the nodes of a domain that may take a part of the ask."""
        return [self.benches[a] for a in sorted(domain.agents) if a in self.benches]

    def nodes_in(self, domain: Domain) -> list[NodeView]:
        """Return all nodes of a domain."""
        return [self.nodes[agent_id] for agent_id in sorted(domain.agents)]


def survey(ask: Ask, nodes: Sequence[NodeView], standing: Sequence[Standing]) -> Ground:
    """Return the ground for an ask whose counts are all above zero."""
    tree = Tree(nodes)
    totals = dict(ask.delta)
    for one in standing:
        if not one.withdrawn:
            totals[one.role] = totals.get(one.role, 0) + 1
    by_id = {node.agent_id: node for node in nodes}
    return Ground(ask, by_id, standing, tree, seat_nodes(ask, nodes, tree), totals)


def _add(left: Counts, right: Counts) -> dict[Role, int]:
    return {role: left.get(role, 0) + right.get(role, 0) for role in {**left, **right}}
