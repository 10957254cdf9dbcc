"""Fragmentation as a number, and what would mend it: which moves would make which nodes whole again.

A free GPU beside used ones is of no use to an instance that wants a whole node, nor is a free node in a
minipod with used ones to one that wants a whole minipod. Nothing is moved here: it is a proposal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale_coordinator.core.placement.repair import homes_of
from heteroscale_coordinator.core.placement.values import NodeView


@dataclass(frozen=True, slots=True)
class Fragments:
    """Free GPUs of one type on usable nodes."""

    free: int
    in_whole_nodes: int
    """On nodes of which every GPU is free."""
    in_whole_s1: int
    """In S1 domains of which every GPU is free; a node that names no S1 is in none."""

    @property
    def of_nodes(self) -> float | None:
        """Share of the free GPUs that no whole node could use, 0 to 1; None when none is free."""
        return 1 - self.in_whole_nodes / self.free if self.free else None

    @property
    def of_s1(self) -> float | None:
        """Share of the free GPUs that no whole S1 could use, 0 to 1; None when none is free."""
        return 1 - self.in_whole_s1 / self.free if self.free else None


@dataclass(frozen=True, slots=True)
class Tenant:
    """An instance that holds GPUs, of whatever service."""

    instance_id: str
    service: str
    template: str
    gpu_type: str
    agent_ids: tuple[str, ...]
    """Agent of each rank, rank 0 first."""
    gpus: int = 1
    """GPUs of each rank."""
    movable: bool = True
    """Launched by us, in service, and its service not paused."""


@dataclass(frozen=True, slots=True)
class Shift:
    """An instance that would go from one node to another of its own domain."""

    instance_id: str
    service: str
    gpus: int
    leaves: str
    comes: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Moves, and the nodes that they would make whole."""

    moves: tuple[Shift, ...] = ()
    frees: tuple[str, ...] = ()
    """Nodes of which every GPU would be free."""
    before: Mapping[str, Fragments] = field(default_factory=dict)
    after: Mapping[str, Fragments] = field(default_factory=dict)


def fragments(nodes: Iterable[NodeView]) -> dict[str, Fragments]:
    """Return how the free GPUs of each type lie; types of which no usable node has any are left out."""
    known = list(nodes)
    s1 = homes_of(known, "s1")
    broken = {s1[node.agent_id] for node in known if not _whole(node)}
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for node in known:
        if not node.usable:
            continue
        whole = _whole(node)
        alone = not node.topology.get("s1")
        free = set(node.free)
        for index, kind in node.gpu_types.items():
            is_free = index in free
            found[kind][0] += is_free
            found[kind][1] += is_free and whole
            found[kind][2] += is_free and not alone and s1[node.agent_id] not in broken
    return {kind: Fragments(*found[kind]) for kind in sorted(found)}


def defragment(nodes: Sequence[NodeView], tenants: Iterable[Tenant], most: int = 100) -> Proposal:
    """Return up to ``most`` moves that would make nodes whole, the cheapest nodes first.

    An instance goes to a node of its own S1, type and template that is in use already and fits it best,
    so that no group changes and no whole node is broken. A node of which one cannot go is left alone.
    """
    homes = homes_of(nodes, "s1")
    state = _Moving({node.agent_id: node for node in nodes}, list(tenants))
    moves: list[Shift] = []
    frees: list[str] = []
    for agent_id in state.by_cost():
        found = state.emptied(agent_id, homes)
        if found and len(moves) + len(found) <= most:
            state.take(found, agent_id)
            moves += found
            frees.append(agent_id)
    return Proposal(tuple(moves), tuple(frees), fragments(nodes), fragments(state.nodes()))


def _whole(node: NodeView) -> bool:
    return node.usable and bool(node.gpu_types) and set(node.free) >= node.gpu_types.keys()


class _Moving:
    """Nodes and who stands on them, as the moves so far would leave them."""

    def __init__(self, nodes: Mapping[str, NodeView], tenants: Sequence[Tenant]) -> None:
        self._nodes = nodes
        self._on: defaultdict[str, list[Tenant]] = defaultdict(list)
        for one in sorted(tenants, key=lambda one: one.instance_id):
            for agent_id in one.agent_ids:
                self._on[agent_id].append(one)
        self._free = {
            (agent_id, kind): sum(node.gpu_types.get(index) == kind for index in node.free)
            for agent_id, node in nodes.items()
            for kind in set(node.gpu_types.values())
        }
        self._emptied: set[str] = set()
        self._filled: set[str] = set()

    def by_cost(self) -> list[str]:
        """Return the nodes that could be emptied, those with the fewest GPUs in use first."""
        used = {
            agent_id: sum(one.gpus for one in self._on[agent_id])
            for agent_id, node in self._nodes.items()
            if node.usable and not node.closed and self._on[agent_id]
        }
        exact = {a: n for a, n in used.items() if n + self._free_of(a) == self._size(a)}
        return sorted(exact, key=lambda agent_id: (exact[agent_id], agent_id))

    def emptied(self, agent_id: str, homes: Mapping[str, tuple[str, ...]]) -> list[Shift]:
        """Return moves that take all off a node; none when one of them has nowhere to go."""
        if agent_id in self._filled:
            return []
        mates = [
            other
            for other in sorted(self._nodes)
            if homes[other] == homes[agent_id] and other != agent_id and self._takes(other)
        ]
        left = {(a, kind): n for (a, kind), n in self._free.items() if a in set(mates)}
        moves = []
        for one in sorted(self._on[agent_id], key=lambda one: (-one.gpus, one.instance_id)):
            fitting = [
                (left[other, one.gpu_type], other)
                for other in mates
                if left.get((other, one.gpu_type), 0) >= one.gpus
                and one.template in self._nodes[other].templates
            ]
            if not one.movable or len(one.agent_ids) > 1 or not fitting:
                return []
            _, best = min(fitting)
            left[best, one.gpu_type] -= one.gpus
            moves.append(Shift(one.instance_id, one.service, one.gpus, agent_id, best))
        return moves

    def take(self, moves: Sequence[Shift], agent_id: str) -> None:
        """Move them."""
        by_id = {one.instance_id: one for one in self._on.pop(agent_id)}
        for move in moves:
            one = by_id[move.instance_id]
            self._on[move.comes].append(one)
            self._free[move.comes, one.gpu_type] -= one.gpus
            self._free[agent_id, one.gpu_type] += one.gpus
            self._filled.add(move.comes)
        self._emptied.add(agent_id)

    def nodes(self) -> list[NodeView]:
        """Return the nodes as they would be; which of a type's GPUs are free is of no matter."""
        return [
            NodeView(
                node.agent_id,
                node.hostname,
                node.topology,
                node.gpu_types,
                self._indices(node),
                node.templates,
                node.usable,
                node.why_not,
                node.closed,
            )
            for node in self._nodes.values()
        ]

    def _indices(self, node: NodeView) -> tuple[int, ...]:
        free: list[int] = []
        for kind in set(node.gpu_types.values()):
            open_ = [i for i, k in sorted(node.gpu_types.items()) if k == kind]
            open_ = [i for i in open_ if i not in node.closed]
            free += open_[: self._free[node.agent_id, kind]]
        return tuple(sorted(free))

    def _takes(self, agent_id: str) -> bool:
        """Return whether a node may take more: in use, and to stay so."""
        node = self._nodes[agent_id]
        in_use = self._free_of(agent_id) < self._size(agent_id)
        return node.usable and in_use and agent_id not in self._emptied

    def _free_of(self, agent_id: str) -> int:
        kinds = set(self._nodes[agent_id].gpu_types.values())
        return sum(self._free[agent_id, kind] for kind in kinds)

    def _size(self, agent_id: str) -> int:
        return len(self._nodes[agent_id].gpu_types)
