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
from dataclasses import dataclass, field, replace

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.family import Index
from heteroscale_coordinator.core.placement.kind import Kinds
from heteroscale_coordinator.core.placement.plan import SAID, place_in
from heteroscale_coordinator.core.placement.rules import under_rules
from heteroscale_coordinator.core.placement.shape import Shape, Shapes
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Standing,
)
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, Path, SubgroupClass

VIEW_LEVELS = ("all", "vdc", "physical_cluster", "cluster", "s2", "s1", "s0")
"""Levels of domains from the outermost inward; ``cluster`` is the logical cluster."""

_INWARD = tuple(reversed(TOPOLOGY_LEVELS))
_VDC, _PHYSICAL, _CLUSTER, _S2, _S1, _S0 = range(1, len(_INWARD) + 1)
_PROMISED = {
    "s1": "no affinity narrower than the next level up",
    "s2": "their S1 alone and then their cluster",
    "cluster": "the next level up as their cluster",
}
_NO_INDICES: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A domain's nodes are of another RDMA subgroup class than before."""

    domain: str
    """Full name of the S1; of a node that names none, its agent."""
    before: SubgroupClass
    after: SubgroupClass
    agent_ids: tuple[str, ...]
    """Nodes that changed with it, in order; one that came only now has not changed."""

    def __str__(self) -> str:
        was, now = self.before.name.lower(), self.after.name.lower()
        return (
            f"{self.domain}: {len(self.agent_ids)} nodes are of {now} class now, they were of {was}"
        )


@dataclass(slots=True)
class Site:
    """A node in its place."""

    node: NodeView
    chain: tuple[Cell, ...]
    """All its domains, the outermost first."""
    heavy: tuple[Cell, ...]
    """Those at whose levels a group may hold together, the nearest first."""
    near: Cell
    """Its S1; one of its own when it names none."""
    wide: Cell
    """The domain whose types decide between the classes low and medium."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """All its GPUs by type."""
    free: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Indices of those that may be taken, lowest first, by type."""
    shape: Shape | None = None
    filed: SubgroupClass = SubgroupClass.LOW
    """The class under which it is counted."""


class FleetView:
    """The fleet as placement sees it. ``put`` and ``remove`` cost the path of one node, not the fleet."""

    def __init__(self, nodes: Iterable[NodeView] = ()) -> None:
        self.shapes, self.kinds = Shapes(), Kinds()
        self.indexes = {level: Index() for level in AFFINITY_LEVELS}
        self.root = Cell("all", (), named=True, parent=None)
        self._sites: dict[str, Site] = {}
        self._cells: dict[tuple[str, Path], Cell] = {("all", ()): self.root}
        self._names = {level: dict[str, int]() for level in AFFINITY_LEVELS}
        self._gaps = dict.fromkeys(_PROMISED, 0)
        self._held: dict[str, frozenset[int]] = {}
        self._stamp = 0
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
        if level in self.indexes:
            index = self.indexes[level]
            return [index.cells[path] for path in index.paths()]
        return [self._cells[key] for key in sorted(key for key in self._cells if key[0] == level)]

    def domain(self, level: str, path: Path) -> Cell | None:
        """Return a domain by its level and whole path."""
        return self._cells.get((level, path))

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
        alone = self._names.get(cell.level, {}).get(cell.name, 1) == 1
        return cell.name if alone else cell.full_name

    def class_of(self, agent_id: str) -> SubgroupClass:
        """Return the subgroup class of a node; LOW for one that is not known."""
        site = self._sites.get(agent_id)
        return site.filed if site else SubgroupClass.LOW

    def gaps(self) -> tuple[str, ...]:
        """Say which levels nodes do not name, and what stands for them; empty: all name all."""
        return tuple(
            f"{level}: {missing} of {len(self)} nodes do not name it; they can promise {promise}"
            for level, promise in _PROMISED.items()
            if (missing := self._gaps[level])
        )

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

        return under_rules(ask, self, standing, search)

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
        return self._held.get(agent_id, _NO_INDICES)

    # ---- write -------------------------------------------------------------------------------

    def put(self, node: NodeView) -> tuple[ClassChange, ...]:
        """Take in a node, new or changed, and return whose class changed by it."""
        site = self._sites.get(node.agent_id)
        if site is None:
            return self._bring(node)
        before = site.node
        if before == node:
            return ()
        if before.topology != node.topology or before.gpu_types != node.gpu_types:
            gone = self._send(site)
            return _together(gone, self._bring(node))
        self._renew(site, node)
        return ()

    def remove(self, agent_id: str) -> tuple[ClassChange, ...]:
        """Forget a node, if it is known, and return whose class changed by it."""
        site = self._sites.get(agent_id)
        return self._send(site) if site else ()

    def hold(self, agent_id: str, indices: Collection[int]) -> None:
        """Keep GPUs of a node for somebody: free or not, they are not offered until released."""
        self._hold(agent_id, self.held(agent_id) | frozenset(indices))

    def release(self, agent_id: str, indices: Collection[int]) -> None:
        """Let go what was held."""
        self._hold(agent_id, self.held(agent_id) - frozenset(indices))

    def _hold(self, agent_id: str, held: frozenset[int]) -> None:
        if held:
            self._held[agent_id] = held
        else:
            self._held.pop(agent_id, None)
        site = self._sites.get(agent_id)
        if site is not None:
            self._renew(site, site.node)

    # ---- a node comes and goes ---------------------------------------------------------------

    def _bring(self, node: NodeView) -> tuple[ClassChange, ...]:
        site = self._placed(node)
        self._sites[node.agent_id] = site
        self._note_gaps(site, +1)
        for cell in _homes(site):
            cell.leaves.add(node.agent_id)
        for cell in site.chain:
            cell.nodes += 1
        self._own(site, +1)
        changes = self._reclass(site)
        site.filed = site.near.subgroup
        self._look(site)
        self._file(site)
        return changes

    def _send(self, site: Site) -> tuple[ClassChange, ...]:
        self._unfile(site)
        del self._sites[site.node.agent_id]
        self._note_gaps(site, -1)
        for cell in _homes(site):
            cell.leaves.discard(site.node.agent_id)
        self._own(site, -1)
        for cell in reversed(site.chain):
            cell.nodes -= 1
            if not cell.nodes and cell is not self.root:
                self._drop(cell)
        for cell in site.heavy:
            if not site.near.nodes:
                cell.nears.pop(site.near.path, None)
            self._index(cell)
        return self._reclass(site)

    def _own(self, site: Site, sign: int) -> None:
        for cell in (site.near, site.wide):
            for kind, gpus in site.gpus.items():
                cell.own(kind, sign * gpus)

    def _note_gaps(self, site: Site, sign: int) -> None:
        topology = site.node.topology
        for level in _PROMISED:
            word = "logical_cluster" if level == "cluster" else level
            if not topology.get(word):
                self._gaps[level] += sign

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
        agents = tuple(sorted(_agents_under(near) - {but}))
        for agent_id in agents:
            site = self._sites[agent_id]
            self._unfile(site)
            site.filed = after
            self._look(site)
            self._file(site)
        return agents

    # ---- where it hangs ----------------------------------------------------------------------

    def _placed(self, node: NodeView) -> Site:
        names = tuple([node.topology.get(level, "") for level in _INWARD])
        cell, chain = self.root, [self.root]
        for level, depth in (("vdc", _VDC), ("physical_cluster", _PHYSICAL)):
            if names[depth - 1]:
                cell = self._cell(level, names[:depth], cell)
                chain.append(cell)
        cluster = self._cell("cluster", names[:_CLUSTER], cell, named=bool(names[_CLUSTER - 1]))
        chain.append(cluster)
        cell = cluster if cluster.named else cell
        s2 = None
        s1_path = names[:_S1] if names[_S1 - 1] else None
        if names[_S2 - 1]:
            s2 = cell = self._cell("s2", names[:_S2], cell)
        elif s1_path:
            # An S1 alone is surely inside one S2, so it stands for a missing one.
            s2 = self._cell("s2", s1_path, cell, named=False)
        if s1_path:
            near = cell = self._cell("s1", s1_path, cell)
        else:
            near = self._cell("s1", ("", node.agent_id), cell, named=False)
        chain += [one for one in (s2, near) if one is not None]
        if names[_S0 - 1]:
            chain.append(self._cell("s0", names, cell))
        # Where the S2 is missing, the next domain up says how mixed the surroundings are.
        wide = s2 if s2 is not None and s2.named else cluster
        near.wide = wide
        heavy = tuple(one for one in (near, s2, cluster) if one is not None)
        for one in heavy:
            one.nears[near.path] = near
        kinds: dict[str, int] = {}
        for kind in node.gpu_types.values():
            kinds[kind] = kinds.get(kind, 0) + 1
        return Site(node, tuple(chain), heavy, near, wide, kinds)

    def _cell(self, level: str, path: Path, parent: Cell, *, named: bool = True) -> Cell:
        found = self._cells.get((level, path))
        if found is None:
            found = self._cells[level, path] = Cell(level, path, named=named, parent=parent)
            if named:
                parent.children[level, path] = found
            if level in self.indexes and (named or level != "s1"):
                names = self._names[level]
                names[found.name] = names.get(found.name, 0) + 1
        return found

    def _drop(self, cell: Cell) -> None:
        del self._cells[cell.level, cell.path]
        if cell.named and cell.parent is not None:
            del cell.parent.children[cell.level, cell.path]
        if cell.level in self.indexes and (cell.named or cell.level != "s1"):
            self.indexes[cell.level].drop(cell)
            names = self._names[cell.level]
            names[cell.name] -= 1
            if not names[cell.name]:
                del names[cell.name]

    # ---- how it counts -----------------------------------------------------------------------

    def _look(self, site: Site) -> None:
        """Read what of a node may be taken."""
        node, held = site.node, self._held.get(site.node.agent_id, _NO_INDICES)
        free: dict[str, list[int]] = {}
        types = node.gpu_types
        for index in sorted(set(node.free) - held):
            free.setdefault(types.get(index, ""), []).append(index)
        site.free = {kind: tuple(free[kind]) for kind in sorted(free)}
        usable = site.free if node.usable else {}
        site.shape = self.shapes.of_node(site.filed, node.templates, usable)

    def _file(self, site: Site) -> None:
        self._count(site, +1)
        node, shape = site.node, site.shape
        self._stamp += 1
        for cell in site.heavy:
            if not node.usable:
                cell.close(node.agent_id)
            else:
                cell.allow(node.templates, +1)
                if node.closed:
                    cell.barred[node.agent_id] = len(node.closed)
            if shape is not None:
                cell.put(shape, node.agent_id)
                cell.stamp = self._stamp
            self._index(cell)

    def _unfile(self, site: Site) -> None:
        self._count(site, -1)
        node, shape = site.node, site.shape
        self._stamp += 1
        for cell in site.heavy:
            if not node.usable:
                cell.open(node.agent_id)
            else:
                cell.allow(node.templates, -1)
                cell.barred.pop(node.agent_id, None)
            if shape is not None:
                cell.take(shape, node.agent_id)
                cell.stamp = self._stamp

    def _renew(self, site: Site, node: NodeView) -> None:
        """Take over what changed of a node that stays where it is."""
        before, free, shape = site.node, site.free, site.shape
        if (
            before.usable != node.usable
            or before.templates != node.templates
            or before.closed != node.closed
        ):
            self._unfile(site)
            site.node = node
            self._look(site)
            self._file(site)
            return
        site.node = node
        self._look(site)
        for kind in {**free, **site.free}:
            more = len(site.free.get(kind, ())) - len(free.get(kind, ()))
            counts = (0, more, 0) if node.usable else (0, 0, more)
            if more:
                for cell in site.chain:
                    cell.count(site.filed, kind, *counts)
        if site.shape is not shape:
            self._stamp += 1
            for cell in site.heavy:
                if shape is not None:
                    cell.take(shape, node.agent_id)
                if site.shape is not None:
                    cell.put(site.shape, node.agent_id)
                cell.stamp = self._stamp
                self._index(cell)

    def _index(self, cell: Cell) -> None:
        if cell.nodes and (cell.named or cell.level != "s1"):
            self.indexes[cell.level].file(cell)

    def _count(self, site: Site, sign: int) -> None:
        usable, free = site.node.usable, site.free
        for kind in {**site.gpus, **free}:
            idle = sign * len(free.get(kind, ()))
            gpus = sign * site.gpus.get(kind, 0)
            counts = (gpus, idle, 0) if usable else (gpus, 0, idle)
            for cell in site.chain:
                cell.count(site.filed, kind, *counts)


def _homes(site: Site) -> set[Cell]:
    """Return where a node is a leaf: in its narrowest named domain, and in the S1 that it has alone."""
    narrow = next(cell for cell in reversed(site.chain) if cell.named)
    return {narrow} if site.near.named else {narrow, site.near}


def _agents_under(cell: Cell) -> set[str]:
    """Return the agents of a domain, whatever lies between."""
    found = set(cell.leaves)
    for child in cell.children.values():
        found |= _agents_under(child)
    return found


def _together(
    gone: tuple[ClassChange, ...], come: tuple[ClassChange, ...]
) -> tuple[ClassChange, ...]:
    """Join the changes of a node's going and of its coming: what went there and back is none."""
    first: dict[str, ClassChange] = {}
    for change in (*gone, *come):
        had = first.get(change.domain)
        kept = (
            change
            if had is None
            else ClassChange(change.domain, had.before, change.after, change.agent_ids)
        )
        first[change.domain] = kept
    return tuple(one for one in first.values() if one.before is not one.after)


def place(ask: Ask, nodes: Iterable[NodeView], standing: Sequence[Standing]) -> Placed | Infeasible:
    """Return where the instances of ``ask.delta`` go in a fleet of ``nodes``; see ``FleetView.place``.

    Who asks more than once keeps a view instead.
    """
    return FleetView(nodes).place(ask, standing)
