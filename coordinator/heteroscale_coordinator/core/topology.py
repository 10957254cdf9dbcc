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
from typing import Protocol

from heteroscale.words import TOPOLOGY_LEVELS

AFFINITY_LEVELS = ("s1", "s2", "cluster")
"""Levels at which a deployment group can hold together, the nearest first."""

Path = tuple[str, ...]
"""A domain's names from the outermost level inward; a missing level leaves an empty name."""

_INWARD = tuple(reversed(TOPOLOGY_LEVELS))
_CLUSTER_DEPTH = _INWARD.index("logical_cluster") + 1
_S2_DEPTH = _INWARD.index("s2") + 1
_S1_DEPTH = _INWARD.index("s1") + 1


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


class Tree:
    """Domains of each affinity level, and the class of each node. Immutable once built."""

    __slots__ = ("_classes", "_domains")

    def __init__(self, nodes: Iterable[Located]) -> None:
        nodes = tuple(nodes)
        self._domains = {level: _domains(level, nodes) for level in AFFINITY_LEVELS}
        self._classes = _classes(nodes)

    def domains(self, level: str) -> tuple[Domain, ...]:
        """Return the domains of an affinity level in the order of their paths."""
        return self._domains[level]

    def class_of(self, agent_id: str) -> SubgroupClass:
        """Return the subgroup class of a node; LOW for one that is not in the tree."""
        return self._classes.get(agent_id, SubgroupClass.LOW)


def path_at(topology: Mapping[str, str], level: str) -> Path | None:
    """Return the path of the domain that holds a node at an affinity level.

    None when the node does not say. An S1 alone is surely inside one S2, so it stands for it; a
    cluster level that is missing is the next one up, at the end the whole fleet.
    """
    names = tuple(topology.get(step, "") for step in _INWARD)
    if level == "cluster":
        return names[:_CLUSTER_DEPTH]
    if level == "s2" and topology.get("s2"):
        return names[:_S2_DEPTH]
    return names[:_S1_DEPTH] if topology.get("s1") else None


def _domains(level: str, nodes: tuple[Located, ...]) -> tuple[Domain, ...]:
    agents: dict[Path, set[str]] = {}
    for node in nodes:
        path = path_at(node.topology, level)
        if path is not None:
            agents.setdefault(path, set()).add(node.agent_id)
    same_name = Counter(_own_name(path) for path in agents)
    return tuple(
        Domain(
            level,
            path,
            _own_name(path) if same_name[_own_name(path)] == 1 else "/".join(filter(None, path)),
            frozenset(agents[path]),
        )
        for path in sorted(agents)
    )


def _own_name(path: Path) -> str:
    return next(filter(None, reversed(path)), "fleet")


def _classes(nodes: tuple[Located, ...]) -> dict[str, SubgroupClass]:
    near: dict[Path, set[str]] = {}
    wide: dict[Path, set[str]] = {}
    for node in nodes:
        types = set(node.gpu_types.values())
        near.setdefault(_near(node), set()).update(types)
        wide.setdefault(_wide(node), set()).update(types)
    classes = {}
    for node in nodes:
        if len(near[_near(node)]) > 1:
            classes[node.agent_id] = SubgroupClass.HIGH
        elif len(wide[_wide(node)]) > 1:
            classes[node.agent_id] = SubgroupClass.MEDIUM
        else:
            classes[node.agent_id] = SubgroupClass.LOW
    return classes


def _near(node: Located) -> Path:
    """Return the node's S1; a node that names none stands alone."""
    return path_at(node.topology, "s1") or ("node", node.agent_id)


def _wide(node: Located) -> Path:
    """Return the node's S2, or where that is missing the next domain up."""
    level = "s2" if node.topology.get("s2") else "cluster"
    return path_at(node.topology, level) or ()
