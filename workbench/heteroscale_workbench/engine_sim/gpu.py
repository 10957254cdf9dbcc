"""The imagined GPU: time that passes while it computes, and how busy it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_LAG = 0.25
"""Seconds of simulated work that a loop which was woken late may catch up."""


class SimulatedGpu:
    """Lets computing time pass. ``clock`` gives seconds that never go back."""

    def __init__(self, speed: float, clock: Callable[[], float]) -> None:
        self._speed = speed
        self._clock = clock
        self._due = 0.0
        self._busy = 0.0
        self._since: float | None = None

    async def spend(self, seconds: float) -> None:
        """Compute for ``seconds`` of the profile; a little lag is caught up, much is not."""
        now = self._clock()
        self._due = max(self._due, now - MAX_LAG) + seconds / self._speed
        self._since = now
        try:
            await asyncio.sleep(max(0.0, self._due - now))
        finally:
            self._busy += self._clock() - now
            self._since = None

    def rested(self) -> None:
        """Take note that there was nothing to do until now: no lag to catch up."""
        self._due = self._clock()

    def busy_seconds(self) -> float:
        """Return the seconds spent computing since the start, the present work included."""
        return self._busy + (0.0 if self._since is None else self._clock() - self._since)
