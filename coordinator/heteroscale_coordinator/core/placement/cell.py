"""A domain of the view: what is in it, by type and class, and its nodes by shape."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from heteroscale_coordinator.core.placement.kind import Terms
from heteroscale_coordinator.core.placement.shape import Shape, Strain
from heteroscale_coordinator.core.topology import Path, SubgroupClass

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.family import Family


class Tally(NamedTuple):
    """GPUs of a domain."""

    gpus: int = 0
    """All, whatever their state."""
    free: int = 0
    """Healthy, on usable nodes, held and promised by nothing: what placement may take."""
    shut: int = 0
    """Free, but on nodes that may not be used now: not connected, cordoned."""

    @property
    def used(self) -> int:
        """Return those that something holds, or that are sick or cordoned one by one."""
        return self.gpus - self.free - self.shut


class Cell:
    """A domain with its counters. The view alone writes; others read between its changes."""

    __slots__ = (
        "_tally",
        "barred",
        "children",
        "family",
        "fits",
        "kinds",
        "leaves",
        "level",
        "mixed",
        "named",
        "nears",
        "nodes",
        "parent",
        "path",
        "room",
        "shapes",
        "shut",
        "stamp",
        "strains",
        "subgroup",
        "terms",
        "wide",
    )

    def __init__(self, level: str, path: Path, *, named: bool, parent: Cell | None) -> None:
        self.level = level
        self.path: Path = path
        """Names from the outermost level inward; a missing level leaves an empty name."""
        self.named = named
        """False: it stands for a level that its nodes do not name, and is no domain of its own."""
        self.parent = parent
        """The next domain outward that is named; None: this is the whole fleet."""
        self.children: dict[tuple[str, Path], Cell] = {}
        """Named domains directly below."""
        self.leaves: set[str] = set()
        """Agents that name no narrower domain."""
        self.nodes = 0
        self.kinds: dict[str, int] = {}
        """All GPUs by type."""
        self._tally: dict[tuple[SubgroupClass, str], list[int]] = {}

        # What only the levels have at which a group may hold together.
        self.shapes: dict[Shape, list[str]] = {}
        """Usable nodes with a free GPU, by shape, in order of their ids."""
        self.strains: dict[Strain, int] = {}
        """How many shapes there are of each strain."""
        self.room = 0
        """Free GPUs on usable nodes."""
        self.terms: dict[Terms, int] = {}
        """How many usable nodes are of just these terms."""
        self.shut: list[str] = []
        """Nodes that may not be used, in order of their ids."""
        self.barred: dict[str, int] = {}
        """How many GPUs of usable nodes take nothing new, by node."""
        self.nears: dict[Path, Cell] = {}
        """S1 domains below, those too that are one node without a name for its S1."""
        self.stamp = 0
        """Changes whenever ``shapes`` does; never the same again."""
        self.fits: dict[Any, Any] = {}
        """Answers that packing gave, with the stamp they were given at."""
        self.family: Family | None = None
        """Its family in the index of its level; None once its strains are others."""

        self.subgroup = SubgroupClass.LOW
        """Class of its nodes; of S1 domains only."""
        self.wide: Cell | None = None
        """Whose types decide between low and medium for it; of S1 domains only."""
        self.mixed = False
        """Whether it has several GPU types; of the domains above an S1 that decide its class."""

    @property
    def name(self) -> str:
        """Return its own name, or that of the next level up where it has none."""
        return next(filter(None, reversed(self.path)), "fleet")

    @property
    def full_name(self) -> str:
        """Return the names of all its levels."""
        return "/".join(filter(None, self.path)) or "fleet"

    @property
    def usable(self) -> int:
        """Return how many nodes may be used now; for S1, S2 and cluster."""
        return self.nodes - len(self.shut)

    def by_class(self) -> Mapping[tuple[SubgroupClass, str], Tally]:
        """Return its GPUs by subgroup class and type."""
        return {key: Tally(*self._tally[key]) for key in sorted(self._tally)}

    def by_type(self) -> Mapping[str, Tally]:
        """Return its GPUs by type."""
        found = dict.fromkeys(sorted({kind for _, kind in self._tally}), Tally())
        for (_, kind), counts in self._tally.items():
            had = found[kind]
            found[kind] = Tally(*(a + b for a, b in zip(had, counts, strict=True)))
        return found

    @property
    def total(self) -> Tally:
        """Return all its GPUs."""
        columns = zip(*self._tally.values(), strict=True)
        return Tally(*map(sum, columns)) if self._tally else Tally()

    # ---- written by the view -----------------------------------------------------------------

    def count(self, subgroup: SubgroupClass, kind: str, gpus: int, free: int, shut: int) -> None:
        """Add to a tally; one that comes to nothing is forgotten."""
        key = subgroup, kind
        had = self._tally.get(key)
        if had is None:
            self._tally[key] = [gpus, free, shut]
            return
        had[0] += gpus
        had[1] += free
        had[2] += shut
        if not any(had):
            del self._tally[key]

    def own(self, kind: str, gpus: int) -> None:
        """Add GPUs of a type, free or not."""
        left = self.kinds.get(kind, 0) + gpus
        if left:
            self.kinds[kind] = left
        else:
            self.kinds.pop(kind, None)

    def put(self, shape: Shape, agent_id: str) -> None:
        """Take in a node with free GPUs."""
        agents = self.shapes.get(shape)
        self.room += shape.gpus
        if agents is not None:
            insort(agents, agent_id)
            return
        self.shapes[shape] = [agent_id]
        known = self.strains.get(shape.strain, 0)
        self.strains[shape.strain] = known + 1
        if not known:
            self.family = None

    def take(self, shape: Shape, agent_id: str) -> None:
        """Let a node go that was put."""
        agents = self.shapes[shape]
        self.room -= shape.gpus
        del agents[bisect_left(agents, agent_id)]
        if agents:
            return
        del self.shapes[shape]
        self.strains[shape.strain] -= 1
        if not self.strains[shape.strain]:
            del self.strains[shape.strain]
            self.family = None

    def allow(self, terms: Terms, nodes: int) -> None:
        """Add usable nodes of these terms."""
        left = self.terms.get(terms, 0) + nodes
        if left:
            self.terms[terms] = left
        else:
            del self.terms[terms]

    def close(self, agent_id: str) -> None:
        """Note a node that may not be used."""
        insort(self.shut, agent_id)

    def open(self, agent_id: str) -> None:
        """Forget a node that might not be used."""
        del self.shut[bisect_left(self.shut, agent_id)]

    def __repr__(self) -> str:
        return f"Cell({self.level} {self.full_name}: {self.nodes} nodes, {self.total})"
