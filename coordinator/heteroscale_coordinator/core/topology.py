"""The tree of network domains, and the RDMA subgroup class of every node in it.

All resources → VDC → physical cluster → logical cluster → bigpod (S2) → minipod (S1) → node
(heteroscale.md §4). Domains are told apart by their whole path, so that two bigpods may both have a
``minipod-1``. A level that a node does not name is missing, not shared: the node hangs under the
next level up that it names, and can promise no affinity narrower than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from heteroscale.words import TOPOLOGY_LEVELS

AFFINITY_LEVELS = ("s1", "s2", "cluster")
"""Levels at which a deployment group can hold together, the nearest first."""

Path = tuple[str, ...]
"""A domain's names from the outermost level inward; a missing level leaves an empty name."""

_INWARD = tuple(reversed(TOPOLOGY_LEVELS))
_CLUSTER_DEPTH = _INWARD.index("logical_cluster") + 1
_S2_DEPTH = _INWARD.index("s2") + 1
_S1_DEPTH = _INWARD.index("s1") + 1
_PHYSICAL = _INWARD.index("physical_cluster")


class SubgroupClass(IntEnum):
    """How scarce the network position of a node is."""

    LOW = 1
    """An S2 domain of one GPU type: common, serves most."""
    MEDIUM = 2
    """An S2 domain of several types, each S1 below it of one."""
    HIGH = 3
    """An S1 domain of several types: scarce, for the strictest heterogeneous P/D."""


class Located(Protocol):
    """What the tree has to know of a node."""

    @property
    def agent_id(self) -> str:
        """The node's agent."""

    @property
    def topology(self) -> Mapping[str, str]:
        """Domain's name by level."""

    @property
    def gpu_types(self) -> Mapping[int, str]:
        """GPU type by index, of all GPUs."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A network domain and the agents in it."""

    level: str
    path: Path
    name: str
    """Its own name; the whole path where two domains of this level share a name."""
    agents: frozenset[str]


class Paths(NamedTuple):
    """Where a node hangs, by affinity level; None where it does not say."""

    s1: Path | None
    s2: Path | None
    """An S1 alone is surely inside one S2, so it stands for a missing one."""
    cluster: Path
    """Missing, it is the next level up; at the end the whole fleet."""


class Tree:
    """Domains of each affinity level, and the place and class of each node. Immutable once built."""

    __slots__ = ("_classes", "_domains", "_near")

    def __init__(self, nodes: Iterable[Located]) -> None:
        nodes = tuple(nodes)
        paths = {node.agent_id: paths_of(node.topology) for node in nodes}
        self._domains = {
            level: _domains(level, {agent: getattr(path, level) for agent, path in paths.items()})
            for level in AFFINITY_LEVELS
        }
        # A node that names no S1 stands alone.
        self._near = {agent: path.s1 or ("", agent) for agent, path in paths.items()}
        self._classes = _classes(nodes, self._near, paths)

    def domains(self, level: str) -> tuple[Domain, ...]:
        """Return the domains of an affinity level in the order of their paths."""
        return self._domains[level]

    def near(self, agent_id: str) -> Path:
        """Return the S1 of a node of the tree; one that names none has a path of its own."""
        return self._near[agent_id]

    def class_of(self, agent_id: str) -> SubgroupClass:
        """Return the subgroup class of a node; LOW for one that is not in the tree."""
        return self._classes.get(agent_id, SubgroupClass.LOW)


def paths_of(topology: Mapping[str, str]) -> Paths:
    """Return where a node with these labels hangs."""
    names = tuple([topology.get(level, "") for level in _INWARD])
    s1 = names[:_S1_DEPTH] if names[_S1_DEPTH - 1] else None
    s2 = names[:_S2_DEPTH] if names[_S2_DEPTH - 1] else s1
    return Paths(s1, s2, names[:_CLUSTER_DEPTH])


def sub_cluster_of(topology: Mapping[str, str]) -> str:
    """Return the sub-cluster of a node with these labels; those that name none are one, without name."""
    return topology.get("physical_cluster", "")


def sub_cluster_in(path: Path) -> str:
    """Return the sub-cluster of a domain at an affinity level."""
    return path[_PHYSICAL]


def _domains(level: str, paths: Mapping[str, Path | None]) -> tuple[Domain, ...]:
    agents: dict[Path, set[str]] = {}
    for agent_id, path in paths.items():
        if path is not None:
            agents.setdefault(path, set()).add(agent_id)
    own_names = {path: next(filter(None, reversed(path)), "fleet") for path in agents}
    alike = Counter(own_names.values())
    return tuple(
        Domain(
            level,
            path,
            own_names[path] if alike[own_names[path]] == 1 else "/".join(filter(None, path)),
            frozenset(agents[path]),
        )
        for path in sorted(agents)
    )


def _classes(
    nodes: Iterable[Located], near: Mapping[str, Path], paths: Mapping[str, Paths]
) -> dict[str, SubgroupClass]:
    near_types: dict[Path, set[str]] = {}
    wide_types: dict[Path, set[str]] = {}
    wide = {}
    for node in nodes:
        path = paths[node.agent_id]
        # Where the S2 is missing, the next domain up says how mixed the surroundings are.
        wide[node.agent_id] = path.s2 if path.s2 and len(path.s2) == _S2_DEPTH else path.cluster
        types = set(node.gpu_types.values())
        near_types.setdefault(near[node.agent_id], set()).update(types)
        wide_types.setdefault(wide[node.agent_id], set()).update(types)

    def class_of(agent_id: str) -> SubgroupClass:
        if len(near_types[near[agent_id]]) > 1:
            return SubgroupClass.HIGH
        mixed = len(wide_types[wide[agent_id]]) > 1
        return SubgroupClass.MEDIUM if mixed else SubgroupClass.LOW

    return {agent_id: class_of(agent_id) for agent_id in wide}
