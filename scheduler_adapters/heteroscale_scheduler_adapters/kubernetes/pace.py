"""Keeps requests below a rate, and away from a server that asks to be left alone."""

from __future__ import annotations


class Pace:
    """A bucket of turns: ``burst`` at once, ``per_second`` in the long run; the caller has the clock."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._turns = float(burst)
        self._at: float | None = None
        self._held_until = 0.0

    def take(self, now: float) -> float:
        """Take a turn, and return in how many seconds it comes (0: now)."""
        if self._at is not None:
            self._turns = min(self._burst, self._turns + (now - self._at) * self._per_second)
        self._at = now
        self._turns -= 1.0
        own = max(0.0, -self._turns / self._per_second)
        return max(own, self._held_until - now)

    def hold(self, now: float, seconds: float) -> None:
        """Let no turn come for so long: the server asked for it."""
        self._held_until = max(self._held_until, now + seconds)
