"""Fragmentation as a number: how much of what is free no whole node, and no whole S1, could use.

A free GPU beside used ones is of no use to an instance that wants a whole node, nor is a free node in a
minipod with used ones to one that wants a whole minipod. What would mend it: ``defragment``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

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


def _whole(node: NodeView) -> bool:
    return node.usable and bool(node.gpu_types) and set(node.free) >= node.gpu_types.keys()
