"""One lock for each instance that something is done with, and none for those of the past."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """A lock is there as long as somebody holds it, or waits for it."""

    def __init__(self) -> None:
        self._found: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return how many are there."""
        return len(self._found)

    def of(self, name: str) -> asyncio.Lock:
        """Return the lock of ``name``: the same for all that hold it or wait."""
        lock = self._found.get(name)
        if lock is None:
            lock = self._found[name] = asyncio.Lock()
        return lock
