"""Best fit: the node that has least left, as a bin packer does."""

from __future__ import annotations

from benchmarks.placement.baseline import Item
from benchmarks.placement.port import Codes, Room, Values


class BestFit:
    """The node with the fewest free GPUs that still suffice."""

    name = "best-fit"

    def of(self, room: Room, nodes: Codes, item: Item) -> Values:
        """Return the free GPUs."""
        del item
        return room.free[nodes].astype(float)
