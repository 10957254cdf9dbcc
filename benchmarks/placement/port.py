"""The one port behind which ours and the baselines place steps, and the room they place them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement import Ask, NodeView, Spot


@dataclass(frozen=True, slots=True)
class Held:
    """An instance in its place."""

    instance_id: str
    spot: Spot
    born: float
    """Virtual seconds."""


class Placer(Protocol):
    """Something that places steps on a fleet and keeps account of what it took."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    def place(self, ask: Ask, standing: Sequence[Held], now: float) -> tuple[Spot, ...] | None:
        """Take room for a whole step, or none and return None. ``standing``: the service's own."""

    def victims(self, delta: Counts, standing: Sequence[Held], now: float) -> Sequence[Held]:
        """Return which ``delta`` (positive counts) of the standing go. Their room is not given yet."""

    def give(self, spot: Spot) -> None:
        """Take back an instance's room."""


Codes = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


class Room:
    """The free GPUs of a fleet as arrays over its nodes, for those that look at every node."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self.ids = [node.agent_id for node in nodes]
        self.number = {agent_id: number for number, agent_id in enumerate(self.ids)}
        self.indices = [sorted(node.free) if node.usable else [] for node in nodes]
        self.free: Codes = np.array([len(indices) for indices in self.indices], dtype=np.int64)
        self.size: Codes = np.array([max(1, len(node.gpu_types)) for node in nodes], dtype=np.int64)
        self.kinds: dict[str, int] = {}
        """A number for each GPU type."""
        self.kind = _codes([next(iter(node.gpu_types.values()), "") for node in nodes], self.kinds)
        self.domain: Mapping[str, Codes] = {
            level: _codes([_domain(node, level) for node in nodes], {})
            for level in ("s1", "s2", "cluster")
        }
        """A number for the domain of each node, by level."""

    def take(self, node: int, gpus: int) -> tuple[int, ...]:
        """Take the lowest free GPUs of a node."""
        indices = self.indices[node]
        taken = tuple(indices[:gpus])
        del indices[:gpus]
        self.free[node] -= gpus
        return taken

    def give(self, spot: Spot) -> None:
        """Take an instance's GPUs back."""
        for rank in spot.ranks:
            node = self.number[rank.agent_id]
            self.indices[node] = sorted([*self.indices[node], *rank.gpu_indices])
            self.free[node] += len(rank.gpu_indices)


def _codes(names: Sequence[object], known: dict[str, int]) -> Codes:
    return np.array([known.setdefault(str(name), len(known)) for name in names], dtype=np.int64)


def _domain(node: NodeView, level: str) -> tuple[str, ...]:
    names = tuple(
        node.topology.get(name, "")
        for name in ("vdc", "physical_cluster", "logical_cluster", "s2", "s1")
    )
    return names[: {"cluster": 3, "s2": 4, "s1": 5}[level]]


def peer_counts(standing: Sequence[Spot], role: Role) -> dict[str, int]:
    """Count instances of other roles than ``role`` by the agent of their rank 0."""
    counts: dict[str, int] = {}
    for spot in standing:
        if spot.role is not role:
            agent = spot.ranks[0].agent_id
            counts[agent] = counts.get(agent, 0) + 1
    return counts
