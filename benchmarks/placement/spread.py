"""Spread: the emptiest node."""

from __future__ import annotations

from benchmarks.placement.baseline import Item
from benchmarks.placement.port import Codes, Room, Values


class Spread:
    """The node with the most free GPUs."""

    name = "spread"

    def of(self, room: Room, nodes: Codes, item: Item) -> Values:
        """Return the free GPUs, the most first."""
        del item
        return -room.free[nodes].astype(float)
