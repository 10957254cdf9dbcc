"""The tree of domains with what is free in each: all → VDC → clusters → S2 → S1 → S0 → node.

A level that no node names is left out; a node that does not name a level hangs under the next one up,
as placement sees it (``core.topology``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heteroscale.words import TOPOLOGY_LEVELS
from heteroscale_cli.placing.inventory import Inventory, Node
from heteroscale_coordinator.core.topology import SubgroupClass, Tree

ALL, NODE = "all", "node"
_INWARD = tuple(reversed(TOPOLOGY_LEVELS))
LEVELS = (*_INWARD, NODE)
"""Levels that can be shown, from the outermost inward."""
_DIGITS = re.compile(r"(\d+)")


class Use(NamedTuple):
    """GPUs, and how they are used; closed ones are neither free nor held."""

    gpus: int = 0
    free: int = 0
    held: int = 0

    @property
    def closed(self) -> int:
        """Cordoned, sick, or on a node that is not there."""
        return self.gpus - self.free - self.held

    def plus(self, other: Use) -> Use:
        """Return both together."""
        return Use(self.gpus + other.gpus, self.free + other.free, self.held + other.held)


@dataclass(frozen=True, slots=True)
class Branch:
    """A domain, or at the end a node, with the sums over all that is below it."""

    level: str
    name: str
    path: tuple[str, ...]
    """Names from the outermost level inward."""
    nodes: int
    empty: int
    """Nodes with every GPU free: what the largest instances need."""
    by_type: Mapping[str, Use]
    by_class: Mapping[str, Use]
    children: tuple[Branch, ...] = ()
    node: Node | None = None

    @property
    def use(self) -> Use:
        """All GPUs of it."""
        return total(self.by_type.values())

    @property
    def scattered(self) -> int:
        """Free GPUs on nodes that are not empty: what large instances cannot have."""
        if self.node is not None:
            return 0 if self.empty else self.use.free
        return sum(child.scattered for child in self.children)

    def walk(self) -> Iterator[Branch]:
        """Yield it and everything below it, outer ones first."""
        yield self
        for child in self.children:
            yield from child.walk()


def total(uses: Iterable[Use]) -> Use:
    """Return the sum."""
    found = Use()
    for use in uses:
        found = found.plus(use)
    return found


def grow(inventory: Inventory) -> Branch:
    """Return the tree of an inventory, with its root ``all``."""
    classes = Tree(node.view for node in inventory.nodes)
    hosts = Counter(node.view.hostname for node in inventory.nodes)
    leaves = [
        _leaf(node, classes.class_of(node.view.agent_id), alone=hosts[node.view.hostname] == 1)
        for node in inventory.nodes
    ]
    children = _below((), leaves, levels_of(inventory))
    return _branch(ALL, inventory.name, (), children)


def levels_of(inventory: Inventory) -> tuple[str, ...]:
    """Return the levels that some node names, outermost first.

    An S0 that is but its node is none: fleets in which each node is its own say nothing by it.
    """
    named = {
        level for node in inventory.nodes for level, name in node.view.topology.items() if name
    }
    s0 = Counter(node.view.topology.get("s0", "") for node in inventory.nodes)
    if all(count == 1 for name, count in s0.items() if name):
        named.discard("s0")
    return tuple(level for level in _INWARD if level in named)


def unnamed(inventory: Inventory) -> list[str]:
    """Say what nodes leave open of where they stand."""
    levels, nodes = levels_of(inventory), inventory.nodes
    said = []
    for level in ("s2", "s1"):
        lacking = [node.view.agent_id for node in nodes if not node.view.topology.get(level)]
        if not lacking:
            continue
        if level not in levels:
            said.append(f"no node names its {level}: nothing can be kept together there")
        else:
            first = ", ".join(sorted(lacking)[:3]) + (", …" if lacking[3:] else "")
            said.append(
                f"{len(lacking)} of {len(nodes)} nodes name no {level} ({first}): "
                "each hangs under the next level up"
            )
    return said


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key by which s1-2 comes before s1-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(text)]


def find(root: Branch, text: str) -> list[Branch]:
    """Return the domains and nodes of this name, or of this path such as ``cluster-1/s2-3``."""
    whole = tuple(text.split("/"))
    return [
        branch
        for branch in root.walk()
        if branch.name == text or (branch.path and branch.path[-len(whole) :] == whole)
    ]


def _leaf(node: Node, subgroup: SubgroupClass, *, alone: bool) -> Branch:
    """Return the leaf of a node: named as its host, or as its agent where a host has several."""
    view = node.view
    free, by_type = set(node.free), dict[str, Use]()
    for index, gpu_type in view.gpu_types.items():
        use = Use(1, int(index in free), int(index in node.held))
        by_type[gpu_type] = by_type.get(gpu_type, Use()).plus(use)
    use = total(by_type.values())
    empty = int(use.gpus > 0 and use.free == use.gpus)
    by_class = {subgroup.name.lower(): use}
    name = view.hostname if view.hostname and alone else view.agent_id
    return Branch(NODE, name, (name,), 1, empty, by_type, by_class, node=node)


def _below(
    path: tuple[str, ...], leaves: Sequence[Branch], levels: Sequence[str]
) -> tuple[Branch, ...]:
    if not levels:
        ordered = sorted(leaves, key=lambda leaf: natural(leaf.name))
        return tuple(_at(leaf, (*path, leaf.name)) for leaf in ordered)
    level, *inner = levels
    groups: dict[str, list[Branch]] = {}
    for leaf in leaves:
        if leaf.node is not None:
            groups.setdefault(leaf.node.view.topology.get(level, ""), []).append(leaf)
    found: list[Branch] = []
    for name in sorted(groups, key=natural):
        if name:
            below = _below((*path, name), groups[name], inner)
            found.append(_branch(level, name, (*path, name), below))
        else:
            found.extend(_below(path, groups[name], inner))
    return tuple(found)


def _at(leaf: Branch, path: tuple[str, ...]) -> Branch:
    return Branch(
        leaf.level, leaf.name, path, 1, leaf.empty, leaf.by_type, leaf.by_class, (), leaf.node
    )


def _branch(level: str, name: str, path: tuple[str, ...], children: tuple[Branch, ...]) -> Branch:
    return Branch(
        level=level,
        name=name,
        path=path,
        nodes=sum(child.nodes for child in children),
        empty=sum(child.empty for child in children),
        by_type=sums(child.by_type for child in children),
        by_class=classes_of(children),
        children=children,
    )


def classes_of(branches: Sequence[Branch]) -> dict[str, Use]:
    """Return the sums by class, the commonest first and the scarcest last."""
    by_class = sums(one.by_class for one in branches)
    names = [one.name.lower() for one in SubgroupClass]
    return {name: by_class[name] for name in names if name in by_class}


def sums(parts: Iterable[Mapping[str, Use]]) -> dict[str, Use]:
    """Return the sum of each key, keys in order."""
    found: dict[str, Use] = {}
    for part in parts:
        for key, use in part.items():
            found[key] = found.get(key, Use()).plus(use)
    return {key: found[key] for key in sorted(found)}
