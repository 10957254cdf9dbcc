"""The server's clock as this agent estimates it; two hosts' wall clocks are never compared."""

from __future__ import annotations

import math


class LinkError(Exception):
    """The session ended; a new one is worth trying."""


WINDOW = 60.0
"""Seconds. Offsets are forgotten after one to two of these; clocks drift less than 0.1 ms/s."""


class ServerClock:
    """Estimates the server's clock from stamped messages.

    A message is stamped when it leaves and read when it arrives, so each gives a lower bound of the
    offset; the highest of the last minute or two is the best. Not of the whole session: an agent's
    clock that is fast by 50 ppm is ahead by 30 s after a week, and leases would come expired.
    """

    def __init__(self) -> None:
        self._began_at = -math.inf
        self._before = self._now = -math.inf

    def stamp(self, server_time: float, received_at: float) -> None:
        """Take in a message's stamp and its local time of arrival."""
        age = received_at - self._began_at
        if age >= WINDOW:
            self._before = self._now if age < 2 * WINDOW else -math.inf
            self._now, self._began_at = -math.inf, received_at
        self._now = max(self._now, server_time - received_at)

    def local(self, server_time: float) -> float:
        """Return a server's moment on the local clock."""
        if self._now == -math.inf:
            raise LinkError("the coordinator sent no server_time")
        return server_time - max(self._before, self._now)
