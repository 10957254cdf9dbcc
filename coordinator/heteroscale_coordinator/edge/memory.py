"""Python's garbage collector beside a large fleet: what was learned of it is looked through no more.

A full collection looks at every object there is, and the turn stands still meanwhile: at 10,000 nodes for
some 30 ms, seen up to 100 ms. Nearly all of those objects are the fleet's, and live as long as it does.
Frozen, they are left out; what dies goes all the same, by its count of references.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from heteroscale_coordinator.core.state import State

THRESHOLDS = (50_000, 20, 20)
"""A turn makes tens of thousands of tuples that die with it, none in a cycle; looking through a large
fleet's objects for cycles every 700 of them took half of the time of reading reports."""
GROWTH = 1.1
"""Frozen anew when the fleet has grown to so many times what it was."""


class Freezer:
    """Freezes what is there once the whole fleet has been read, and again when it has grown."""

    def __init__(self, freeze: Callable[[], None] = gc.freeze) -> None:
        self._freeze = freeze
        self._nodes = 0

    def __call__(self, state: State) -> None:
        """Look after a turn whether it is time."""
        nodes = len(state.seen.view)
        if state.seen.whole and nodes > GROWTH * self._nodes:
            self._nodes = nodes
            self._freeze()
