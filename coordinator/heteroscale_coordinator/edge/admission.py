"""How fast agents are let in after a restart: so many hellos a second, the rest wait in line.

Waiting happens before the hello is read, so ten thousand waiting agents hold their hellos themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Admission:
    """A line that moves at ``rate`` a second; ``burst`` of them may enter at once after a rest."""

    def __init__(
        self,
        rate: float,
        burst: int,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gap = 1.0 / rate
        self._slack = (burst - 1) * self._gap
        self._now, self._sleep = now, sleep
        self._due = float("-inf")
        """When the line will be empty at its own pace."""

    async def enter(self) -> float:
        """Wait for one's turn; return the seconds that it took."""
        now = self._now()
        due = max(self._due, now)
        self._due = due + self._gap
        wait = max(0.0, due - self._slack - now)
        if wait > 0:
            await self._sleep(wait)
        return wait
