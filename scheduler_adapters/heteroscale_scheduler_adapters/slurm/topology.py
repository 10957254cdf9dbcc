"""Which domains a node stands in, from ``scontrol show topology`` or from ``topology.conf``.

A tree names switches, ``SwitchName=leaf1 Nodes=node[1-2]``, and switches of switches; the block plugin
names blocks, ``BlockName=b1 Nodes=node[1-18]``, and sizes of blocks of blocks. What ``scontrol`` prints
has the same words and more of them, so one reader does for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale_scheduler_adapters.slurm.hostlist import expand

_FIELD = re.compile(r"(\w+)=(\S*)")
MAX_DEPTH = 16


@dataclass(slots=True)
class _Group:
    name: str
    kind: str
    nodes: frozenset[str]
    below: tuple[str, ...] = ()
    level: int | None = None
    all_nodes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Place:
    """The domains of one node: level to name, and level to where that came from."""

    names: Mapping[str, str]
    sources: Mapping[str, str]


def places(
    text: str, switches: Sequence[str] = ("s1", "s2"), blocks: Sequence[str] = ("s0", "s1")
) -> dict[str, Place]:
    """Return the place of each node; the levels are named from the leaf upward."""
    groups = _read(text)
    by_name = {group.name: group for group in groups}
    for group in groups:
        group.level = _level(group, by_name, 0)
        group.all_nodes = _nodes(group, by_name, 0)
    found: dict[str, Place] = {}
    # Of a cluster of blocks that has switches too, the switches name what both can.
    for kind, levels in (("block", blocks), ("switch", switches)):
        ordered = sorted((g for g in groups if g.kind == kind), key=_rank)
        for node in sorted(frozenset().union(*(g.all_nodes for g in ordered))):
            mine = [g.name for g in ordered if node in g.all_nodes]
            old = found.get(node, Place({}, {}))
            names = dict(zip(levels, mine, strict=False))
            sources = {level: f"slurm {kind} {name}" for level, name in names.items()}
            found[node] = Place({**old.names, **names}, {**old.sources, **sources})
    return found


def _rank(group: _Group) -> tuple[int, int, str]:
    # Blocks tell no levels: what has fewer nodes is further down.
    return (group.level or 0, len(group.all_nodes), group.name)


def _read(text: str) -> list[_Group]:
    groups: list[_Group] = []
    for line in _lines(text):
        fields = dict(_FIELD.findall(line))
        nodes = frozenset(expand(fields.get("Nodes", "")))
        level = fields.get("Level", "")
        if name := fields.get("SwitchName"):
            below = expand(fields.get("Switches", ""))
            known = int(level) if level.isdecimal() else None
            groups.append(_Group(name, "switch", nodes, below, known))
        elif name := fields.get("BlockName") or fields.get("AggregatedBlock"):
            groups.append(_Group(name, "block", nodes, (), 0))
    return groups


def _lines(text: str) -> Iterable[str]:
    for line in text.replace("\\\n", " ").splitlines():
        yield line.partition("#")[0]


def _level(group: _Group, by_name: Mapping[str, _Group], depth: int) -> int:
    if group.level is not None:
        return group.level
    below = [by_name[name] for name in group.below if name in by_name]
    if not below or depth > MAX_DEPTH:
        return 0
    return 1 + max(_level(one, by_name, depth + 1) for one in below)


def _nodes(group: _Group, by_name: Mapping[str, _Group], depth: int) -> frozenset[str]:
    below = [by_name[name] for name in group.below if name in by_name and depth <= MAX_DEPTH]
    return group.nodes.union(*(_nodes(one, by_name, depth + 1) for one in below))
