"""Fragmentation as a number: how much of what is free no whole node, and no whole S1, could use.

A free GPU beside used ones is of no use to an instance that wants a whole node, nor is a free node in a
minipod with used ones to one that wants a whole minipod. What would mend it: ``defragment``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heteroscale_coordinator.core.topology import Path

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.domains import Site


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


@dataclass(slots=True)
class _S1:
    """The nodes of a minipod that are counted."""

    broken: int = 0
    """Those that are not whole."""
    gpus: Counter[str] = field(default_factory=Counter)
    """All their GPUs by type."""


class Wholes:
    """Counts node by node what is whole: nodes of which every GPU is free, S1 domains of such alone."""

    def __init__(self) -> None:
        self._usable: Counter[str] = Counter()
        """GPUs of usable nodes by type, free or not."""
        self._free: Counter[str] = Counter()
        self._in_nodes: Counter[str] = Counter()
        self._in_s1: Counter[str] = Counter()
        self._s1: dict[Path, _S1] = {}

    def add(self, site: Site, sign: int) -> None:
        """Count a node as it is now, or with -1 count it no more; between the two it must not change."""
        self._add_to_s1(site, sign)
        if not site.node.usable:
            return
        for kind, gpus in site.gpus.items():
            self._usable[kind] += sign * gpus
        for kind, indices in site.free.items():
            self._free[kind] += sign * len(indices)
            if site.whole:
                self._in_nodes[kind] += sign * len(indices)

    def _add_to_s1(self, site: Site, sign: int) -> None:
        if not site.near.named:
            return
        path = site.near.path
        one = self._s1.setdefault(path, _S1())
        if not one.broken:
            self._in_s1.subtract(one.gpus)
        one.broken += sign * (not site.whole)
        for kind, gpus in site.gpus.items():
            one.gpus[kind] += sign * gpus
        if not one.broken:
            self._in_s1.update(one.gpus)
            if not any(one.gpus.values()):
                del self._s1[path]

    def fragments(self) -> dict[str, Fragments]:
        """Return how the free GPUs of each type lie; types that no usable node has are left out."""
        return {
            kind: Fragments(self._free[kind], self._in_nodes[kind], self._in_s1[kind])
            for kind in sorted(self._usable)
            if self._usable[kind]
        }
