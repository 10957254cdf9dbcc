"""The facts of one placement: the tree, the seats, the kin, and what has been tried on them.

A search deducts virtually and rolls back; nothing here changes but the memory of what was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.feasible import Bench, seat_nodes, shortfall
from heteroscale_coordinator.core.placement.pack import Patience, Seat, pack
from heteroscale_coordinator.core.placement.rank import Candidate, kin_in, peer_of
from heteroscale_coordinator.core.placement.values import Ask, NodeView, Standing
from heteroscale_coordinator.core.topology import Domain, Path, Tree


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
            self._fits[key] = (
                None if hopeless else pack(self.ask.roles, counts, benches, self.patience)
            )
        return self._fits[key]

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
