"""Latency kept small: a histogram with buckets 5 % apart, and what happened second by second."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST = 1e-4
GROWTH = math.log(1.05)
BUCKETS = 300
"""From 0.1 ms to about 200 s."""


class LogHistogram:
    """Durations in seconds; quantiles are within 5 % of the true ones."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration ``times`` times."""
        place = int(math.log(seconds / SMALLEST) / GROWTH) + 1 if seconds > SMALLEST else 0
        self._counts[min(place, BUCKETS - 1)] += times
        self.count += times
        self.total += seconds * times

    def add(self, other: LogHistogram) -> None:
        """Count everything that ``other`` counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float | None:
        """Mean in seconds; None without an observation."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return the duration that ``share`` (0 to 1) of all do not exceed; None without one."""
        if not self.count:
            return None
        rank, seen = share * self.count, 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                return SMALLEST * math.exp(GROWTH * place)
        return SMALLEST * math.exp(GROWTH * (BUCKETS - 1))


@dataclass(frozen=True, slots=True)
class Latency:
    """A summary, in seconds; None is unknown, because nothing was observed."""

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: LogHistogram) -> Latency:
        """Return the summary of a histogram."""
        q = histogram.quantile
        return cls(histogram.count, histogram.mean, q(0.50), q(0.95), q(0.99))


class Second:
    """What happened in one second of the run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = 0
        self.tokens = 0
        self.ttft = LogHistogram()
        self.tbt = LogHistogram()


class Recent:
    """The last seconds of a run."""

    def __init__(self, keep: int) -> None:
        self._seconds: deque[Second] = deque(maxlen=keep + 1)
        self._keep = keep

    def at(self, elapsed: float) -> Second:
        """Return the second that ``elapsed`` lies in."""
        number = int(elapsed)
        if not self._seconds or self._seconds[-1].number < number:
            self._seconds.append(Second(number))
        return self._seconds[-1]

    def last(self, elapsed: float) -> tuple[Sequence[Second], float]:
        """Return the seconds of the recent window, and how long it is."""
        since = max(0.0, int(elapsed) - self._keep)
        seconds = [second for second in self._seconds if second.number >= since]
        return seconds, max(elapsed - since, 1e-9)
