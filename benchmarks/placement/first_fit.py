"""First fit: the first node in the order of the inventory."""

from __future__ import annotations

from benchmarks.placement.baseline import Item
from benchmarks.placement.port import Codes, Room, Values


class FirstFit:
    """The first node that has room."""

    name = "first-fit"

    def of(self, room: Room, nodes: Codes, item: Item) -> Values:
        """Return the nodes' own order."""
        del room, item
        return nodes.astype(float)
