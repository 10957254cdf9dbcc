"""The recent past of one engine, small enough for 40,000 of them.

A track keeps at most ``SLOTS`` samples, ``spacing`` seconds apart; the newest always replaces the
one before until that one is old enough to stand. Counters live in one flat array; gauges are kept
too, because scale-in asks for their highest value over a window. NaN stands for unknown inside, and
comes out as None.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import EngineSample

SLOTS = 32
_NAN = math.nan


class Point(NamedTuple):
    """One kept sample; None is unknown. Times and counters as in ``EngineSample``."""

    at: float
    generation_tokens: float | None
    prompt_tokens: float | None
    computed_prompt_tokens: float | None
    requests_finished: float | None
    requests_aborted: float | None
    running: float | None
    waiting: float | None
    transferring: float | None
    kv_usage: float | None
    ttft_sum: float | None
    ttft_count: float | None
    tbt_sum: float | None
    tbt_count: float | None

    @property
    def arrived(self) -> float | None:
        """Requests that ever came: finished + aborted + running + waiting + transferring."""
        if self.requests_finished is None or self.running is None or self.waiting is None:
            return None
        aborted, moving = self.requests_aborted or 0.0, self.transferring or 0.0
        return self.requests_finished + aborted + self.running + self.waiting + moving

    @property
    def queued(self) -> float | None:
        """Waiting + transferring."""
        if self.waiting is None:
            return None
        return self.waiting + (self.transferring or 0.0)


WIDTH = len(Point._fields)
COUNTERS = ("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished")


class Track:
    """Samples of one engine, oldest first. Only scrapes of quality OK become points."""

    __slots__ = ("_data", "quality", "spacing")

    def __init__(self, spacing: float = 5.0) -> None:
        self._data = array("d")
        self.quality = ScrapeQuality.MISSING
        self.spacing = spacing

    def add(self, sample: EngineSample) -> None:
        """Take in a sample; one that is older than the newest kept is dropped."""
        self.quality = sample.quality
        data = self._data
        if sample.quality is not ScrapeQuality.OK or (data and sample.at <= data[-WIDTH]):
            return
        row = _row(sample)
        crowded = len(data) >= 2 * WIDTH and data[-WIDTH] - data[-2 * WIDTH] < self.spacing
        if crowded:
            data[-WIDTH:] = row
            return
        data.extend(row)
        if len(data) > SLOTS * WIDTH:
            del data[:WIDTH]

    @property
    def newest(self) -> Point | None:
        """The newest point, or None when there is none."""
        return self._point(len(self._data) - WIDTH) if self._data else None

    def age(self, now: float) -> float | None:
        """Seconds since the newest point's values were true; None when there is none."""
        return max(0.0, now - self._data[-WIDTH]) if self._data else None

    def fresh(self, now: float, freshness: float) -> bool:
        """Return whether the newest point is at most ``freshness`` seconds old."""
        age = self.age(now)
        return age is not None and age <= freshness

    def window(self, now: float, length: float) -> list[Point]:
        """Return the points of the last ``length`` seconds and the one before them, oldest first."""
        data = self._data
        first = len(data)
        while first > 0:
            first -= WIDTH
            if data[first] <= now - length:
                break
        return [self._point(start) for start in range(first, len(data), WIDTH)]

    def __len__(self) -> int:
        return len(self._data) // WIDTH

    def __iter__(self) -> Iterator[Point]:
        return (self._point(start) for start in range(0, len(self._data), WIDTH))

    def _point(self, start: int) -> Point:
        values = self._data[start : start + WIDTH]
        return Point(values[0], *(None if value != value else value for value in values[1:]))  # noqa: PLR0124


def _row(sample: EngineSample) -> array[float]:
    ttft, tbt = sample.ttft, sample.tbt
    values = (
        sample.at,
        *sample[3:12],
        ttft.sum_seconds if ttft else None,
        ttft.observations if ttft else None,
        tbt.sum_seconds if tbt else None,
        tbt.observations if tbt else None,
    )
    return array("d", [_NAN if value is None else value for value in values])
