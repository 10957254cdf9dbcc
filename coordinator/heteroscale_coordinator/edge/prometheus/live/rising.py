"""Counters of engines that restart, made to grow for ever: any two values then give a rate."""

from __future__ import annotations

from dataclasses import dataclass

JITTER = 0.9
"""A counter at this part of its last value or above did not restart."""
MOST_PER_SECOND = 5e6
"""Of one instance; more in a second is nonsense."""
LONGEST_GAP = 180.0
"""Seconds over which a rate is still believed to have held."""


@dataclass(slots=True)
class Rising:
    """One counter; starts at zero when it is first seen."""

    total: float = 0.0
    _last: float | None = None
    _at: float = 0.0

    def fold(self, raw: float | None, at: float) -> float | None:
        """Take in what it stood at at time ``at`` (s); return the total, None when unknown."""
        if raw is None:
            return None
        if self._last is not None:
            gained = raw - self._last
            if gained < 0:
                # A little less is another replica of the same counter; much less is a restart.
                gained = 0.0 if raw >= self._last * JITTER else raw
            if gained > MOST_PER_SECOND * max(1.0, at - self._at):
                return None
            self.total += gained
            if raw >= self._last or raw < self._last * JITTER:
                self._last = raw
        else:
            self._last = raw
        self._at = at
        return self.total


@dataclass(slots=True)
class Summed:
    """A rise per second, added up."""

    total: float = 0.0
    _at: float | None = None

    def fold(self, rate: float | None, at: float) -> float | None:
        """Take in the rate at time ``at`` (s); return the total, None when unknown.

        After too long a gap it begins anew at zero: what came meanwhile is not known.
        """
        if rate is None:
            return None
        if self._at is not None:
            gap = at - self._at
            self.total = self.total + rate * gap if 0 <= gap <= LONGEST_GAP else 0.0
        self._at = at
        return self.total
