"""The tree of domains, and where a node hangs in it.

All → VDC → physical cluster → logical cluster → bigpod (S2) → minipod (S1) → S0 where present → node
(heteroscale.md §4). A level that a node does not name is missing, not shared: the node hangs under the
next level up that it names, and can promise no affinity narrower than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.family import Index
from heteroscale_coordinator.core.placement.shape import Shape
from heteroscale_coordinator.core.placement.values import NodeView
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
    whole: bool = False
    """Whether it has GPUs and every one of them may be taken."""
    shape: Shape | None = None
    filed: SubgroupClass = SubgroupClass.LOW
    """The class under which it is counted."""


class Domains:
    """The domains with nodes in them. Who hangs a node or takes it down counts it too: ``Tallies``."""

    def __init__(self) -> None:
        self.indexes = {level: Index() for level in AFFINITY_LEVELS}
        self.root = Cell("all", (), named=True, parent=None)
        self._cells: dict[tuple[str, Path], Cell] = {("all", ()): self.root}
        self._names = {level: dict[str, int]() for level in AFFINITY_LEVELS}
        self._gaps = dict.fromkeys(_PROMISED, 0)

    # ---- read --------------------------------------------------------------------------------

    def of_level(self, level: str) -> list[Cell]:
        """Return the domains of a level of ``VIEW_LEVELS`` in the order of their paths."""
        if level in self.indexes:
            index = self.indexes[level]
            return [index.cells[path] for path in index.paths()]
        return [self._cells[key] for key in sorted(key for key in self._cells if key[0] == level)]

    def get(self, level: str, path: Path) -> Cell | None:
        """Return a domain by its level and whole path."""
        return self._cells.get((level, path))

    def name_of(self, cell: Cell) -> str:
        """Return a domain's own name, its full one where another of its level has the same."""
        alone = self._names.get(cell.level, {}).get(cell.name, 1) == 1
        return cell.name if alone else cell.full_name

    def gaps(self) -> tuple[str, ...]:
        """Say which levels nodes do not name, and what stands for them; empty: all name all."""
        return tuple(
            f"{level}: {missing} of {self.root.nodes} nodes do not name it; they can promise {promise}"
            for level, promise in _PROMISED.items()
            if (missing := self._gaps[level])
        )

    # ---- write -------------------------------------------------------------------------------

    def hang(self, node: NodeView) -> Site:
        """Hang a node where its topology says, and make the domains that it is the first of."""
        site = self._placed(node)
        self._note_gaps(site, +1)
        for cell in _homes(site):
            cell.leaves.add(node.agent_id)
        for cell in site.chain:
            cell.nodes += 1
        _own(site, +1)
        return site

    def take_down(self, site: Site) -> None:
        """Take a node down, and drop the domains that it was the last of."""
        self._note_gaps(site, -1)
        for cell in _homes(site):
            cell.leaves.discard(site.node.agent_id)
        _own(site, -1)
        for cell in reversed(site.chain):
            cell.nodes -= 1
            if not cell.nodes and cell is not self.root:
                self._drop(cell)
        for cell in site.heavy:
            if not site.near.nodes:
                cell.nears.pop(site.near.path, None)
            self.index(cell)

    def index(self, cell: Cell) -> None:
        """File a domain among its like, by what nodes it has now."""
        if cell.nodes and (cell.named or cell.level != "s1"):
            self.indexes[cell.level].file(cell)

    def _note_gaps(self, site: Site, sign: int) -> None:
        topology = site.node.topology
        for level in _PROMISED:
            word = "logical_cluster" if level == "cluster" else level
            if not topology.get(word):
                self._gaps[level] += sign

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


def _homes(site: Site) -> set[Cell]:
    """Return where a node is a leaf: in its narrowest named domain, and in the S1 that it has alone."""
    narrow = next(cell for cell in reversed(site.chain) if cell.named)
    return {narrow} if site.near.named else {narrow, site.near}


def agents_under(cell: Cell) -> set[str]:
    """Return the agents of a domain, whatever lies between."""
    found = set(cell.leaves)
    for child in cell.children.values():
        found |= agents_under(child)
    return found


def _own(site: Site, sign: int) -> None:
    for cell in (site.near, site.wide):
        for kind, gpus in site.gpus.items():
            cell.own(kind, sign * gpus)
