"""The topological resource view: the whole fleet as a tree of domains, kept up to date node by node.

All → VDC → physical cluster → logical cluster → bigpod (S2) → minipod (S1) → S0 where present → node
→ GPU (heteroscale.md §4). A change of a node touches only the domains above it. A level that a node
does not name is missing, not shared: the node hangs under the next level up that it names, and can
promise no affinity narrower than that (``gaps`` says so). RDMA subgroup classes are derived from
what stands where, and a change of class is told to whoever made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.classes import ClassChange, together
from heteroscale_coordinator.core.placement.domains import Domains, Site, agents_under
from heteroscale_coordinator.core.placement.federate import federate
from heteroscale_coordinator.core.placement.fragments import Fragments
from heteroscale_coordinator.core.placement.kind import Kinds
from heteroscale_coordinator.core.placement.ledger import Ledger
from heteroscale_coordinator.core.placement.plan import SAID, place_in
from heteroscale_coordinator.core.placement.rules import under_rules
from heteroscale_coordinator.core.placement.tallies import NO_INDICES, Tallies
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Standing,
)
from heteroscale_coordinator.core.topology import Path, SubgroupClass


class FleetView:
    """The fleet as placement sees it. ``put`` and ``remove`` cost the path of one node, not the fleet."""

    def __init__(self, nodes: Iterable[NodeView] = ()) -> None:
        self.kinds = Kinds()
        self._tree = Domains()
        self.root, self.indexes = self._tree.root, self._tree.indexes
        self._tallies = Tallies(self._tree)
        self.ledger = Ledger()
        self._sites: dict[str, Site] = {}
        for node in nodes:
            self.put(node)

    # ---- read --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._sites)

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._sites

    def __iter__(self) -> Iterator[NodeView]:
        """Yield the nodes in order of their ids."""
        return (self._sites[agent_id].node for agent_id in sorted(self._sites))

    def node(self, agent_id: str) -> NodeView | None:
        """Return a node as it was put."""
        site = self._sites.get(agent_id)
        return site.node if site else None

    def site(self, agent_id: str) -> Site | None:
        """Return a node in its place."""
        return self._sites.get(agent_id)

    def domains(self, level: str) -> list[Cell]:
        """Return the domains of a level of ``VIEW_LEVELS`` in the order of their paths.

        At ``s2`` an S1 whose S2 is not named stands for it, at ``cluster`` the next level up.
        """
        return self._tree.of_level(level)

    def domain(self, level: str, path: Path) -> Cell | None:
        """Return a domain by its level and whole path."""
        return self._tree.get(level, path)

    def domain_of(self, agent_id: str, level: str) -> Cell | None:
        """Return a node's domain at an affinity level; None when it has none, or is not known."""
        site = self._sites.get(agent_id)
        if site is None:
            return None
        s1, *wider = site.heavy
        if level == "s1":
            return s1 if s1.named else None
        return wider[-1] if level == "cluster" else (wider[0] if len(wider) > 1 else None)

    def name_of(self, cell: Cell) -> str:
        """Return a domain's own name, its full one where another of its level has the same."""
        return self._tree.name_of(cell)

    def gaps(self) -> tuple[str, ...]:
        """Say which levels nodes do not name, and what stands for them; empty: all name all."""
        return self._tree.gaps()

    def fragments(self) -> dict[str, Fragments]:
        """Return how the free GPUs of each type lie; types that no usable node has are left out.

        What is held is not free. It is counted as nodes change, so asking costs nothing.
        """
        return self._tallies.wholes.fragments()

    def class_of(self, agent_id: str) -> SubgroupClass:
        """Return the subgroup class of a node; LOW for one that is not known."""
        site = self._sites.get(agent_id)
        return site.filed if site else SubgroupClass.LOW

    def place(
        self, ask: Ask, standing: Sequence[Standing], said: int = SAID
    ) -> Placed | Infeasible:
        """Return where the instances of ``ask.delta`` go, all of them, or why they cannot.

        What is held is not offered. The view is not changed: who takes the place holds it.
        ``standing`` are the service's own instances. Counts of zero or less ask for nothing.
        ``said``: how many rejected candidates are told; nothing else depends on it.
        """

        def search(asked: Ask, stand: Sequence[Standing]) -> Placed | Infeasible:
            return place_in(self, asked, stand, said)

        def ruled(asked: Ask) -> Placed | Infeasible:
            return under_rules(asked, self, standing, search)

        return federate(ask, self, standing, ruled)

    @contextmanager
    def less(
        self, shut: Mapping[str, str], taken: Mapping[str, frozenset[int]]
    ) -> Iterator[FleetView]:
        """Give the view without some nodes, and why, and without GPUs of others; for a while."""
        open_nodes = [site.node for agent in shut if (site := self._sites.get(agent))]
        held = {agent: self.held(agent) for agent in taken}
        try:
            for node in open_nodes:
                if node.usable:
                    self.put(replace(node, usable=False, why_not=shut[node.agent_id]))
            for agent, indices in taken.items():
                self._hold(agent, held[agent] | indices)
            yield self
        finally:
            for agent, before in held.items():
                self._hold(agent, before)
            for node in open_nodes:
                self.put(node)

    def free(self, agent_id: str, gpu_type: str) -> tuple[int, ...]:
        """Return the indices of a node's free GPUs of a type that nobody holds, lowest first."""
        site = self._sites.get(agent_id)
        return site.free.get(gpu_type, ()) if site else ()

    def held(self, agent_id: str) -> frozenset[int]:
        """Return the GPUs of a node that are held for somebody."""
        return self._tallies.held.get(agent_id, NO_INDICES)

    # ---- write -------------------------------------------------------------------------------

    def put(self, node: NodeView) -> tuple[ClassChange, ...]:
        """Take in a node, new or changed, and return whose class changed by it."""
        site = self._sites.get(node.agent_id)
        if site is None:
            self.ledger.write(None, node)
            return self._bring(node)
        before = site.node
        if before == node:
            return ()
        self.ledger.write(before, node)
        if before.topology != node.topology or before.gpu_types != node.gpu_types:
            gone = self._send(site)
            return together(gone, self._bring(node))
        self._tallies.renew(site, node)
        return ()

    def remove(self, agent_id: str) -> tuple[ClassChange, ...]:
        """Forget a node, if it is known, and return whose class changed by it."""
        site = self._sites.get(agent_id)
        if site is None:
            return ()
        self.ledger.write(site.node, None)
        return self._send(site)

    def hold(self, agent_id: str, indices: Collection[int]) -> None:
        """Keep GPUs of a node for somebody: free or not, they are not offered until released."""
        self._hold(agent_id, self.held(agent_id) | frozenset(indices))

    def release(self, agent_id: str, indices: Collection[int]) -> None:
        """Let go what was held."""
        self._hold(agent_id, self.held(agent_id) - frozenset(indices))

    def _hold(self, agent_id: str, held: frozenset[int]) -> None:
        if held:
            self._tallies.held[agent_id] = held
        else:
            self._tallies.held.pop(agent_id, None)
        site = self._sites.get(agent_id)
        if site is not None:
            self._tallies.renew(site, site.node)

    # ---- a node comes and goes ---------------------------------------------------------------

    def _bring(self, node: NodeView) -> tuple[ClassChange, ...]:
        site = self._sites[node.agent_id] = self._tree.hang(node)
        changes = self._reclass(site)
        site.filed = site.near.subgroup
        self._tallies.look(site)
        self._tallies.file(site)
        return changes

    def _send(self, site: Site) -> tuple[ClassChange, ...]:
        self._tallies.unfile(site)
        del self._sites[site.node.agent_id]
        self._tree.take_down(site)
        return self._reclass(site)

    def _reclass(self, site: Site) -> tuple[ClassChange, ...]:
        """Derive the classes anew where this node's coming or going can have changed them."""
        near, wide = site.near, site.wide
        mixed = len(wide.kinds) > 1
        nears: Iterable[Cell] = (near,)
        if mixed != wide.mixed:
            wide.mixed = mixed
            nears = [one for _, one in sorted(wide.nears.items()) if one.wide is wide]
        changes = []
        for cell in nears:
            mild = SubgroupClass.MEDIUM if mixed else SubgroupClass.LOW
            after = SubgroupClass.HIGH if len(cell.kinds) > 1 else mild
            if after is cell.subgroup:
                continue
            agents = self._refile(cell, after, but=site.node.agent_id)
            if agents:
                name = cell.full_name
                changes.append(ClassChange(name, cell.subgroup, after, agents))
            cell.subgroup = after
        return tuple(changes)

    def _refile(self, near: Cell, after: SubgroupClass, but: str) -> tuple[str, ...]:
        agents = tuple(sorted(agents_under(near) - {but}))
        for agent_id in agents:
            site = self._sites[agent_id]
            self._tallies.unfile(site)
            site.filed = after
            self._tallies.look(site)
            self._tallies.file(site)
        return agents


def place(ask: Ask, nodes: Iterable[NodeView], standing: Sequence[Standing]) -> Placed | Infeasible:
    """Return where the instances of ``ask.delta`` go in a fleet of ``nodes``; see ``FleetView.place``.

    Who asks more than once keeps a view instead.
    """
    return FleetView(nodes).place(ask, standing)
