"""The recent past of one engine, small enough for 40,000 of them.

A track keeps at most ``SLOTS`` samples, ``spacing`` seconds apart; the newest always replaces the
one before until that one is old enough to stand. Counters live in one flat array; gauges are kept
too, because scale-in asks for their highest value over a window. NaN stands for unknown inside, and
comes out as None.

What GPUs and ports said beside a sample is kept in whole percent, a byte each, in a row beside it; an
engine of whose hardware nothing is told has no such row.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import lt
from typing import NamedTuple

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import EngineSample

SLOTS = 32
_SPARE = 6
"""Slots beyond the longest window: its edges, and samples that come late."""
_NAN, _INF = math.nan, math.inf


def spacing_of(longest: float) -> float:
    """Return how far apart samples stand, so that a window of ``longest`` seconds fits into a track."""
    return longest / (SLOTS - _SPARE)


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


WIDTH = len(Point._fields)
COUNTERS = ("generation_tokens", "prompt_tokens", "computed_prompt_tokens", "requests_finished")
"""What may never fall: the fields of a point after its time."""
_PLACES = {name: place for place, name in enumerate(Point._fields)}
HARDWARE = ("gpu_util", "sm_activity", "rdma_share")
"""Shares, 0 to 1, of the instance's GPUs and of the busiest port of its hosts."""
_BYTES = len(HARDWARE)
_BYTE = {name: place for place, name in enumerate(HARDWARE)}
UNTOLD = bytes([255] * _BYTES)
"""Hardware of which nothing is known."""


class Samples:
    """Kept samples in a row, oldest first: whole points, or (cheaper) single values and columns.

    Columns are the fields of a point and three sums: ``queued`` (waiting + transferring),
    ``in_flight`` (that + running) and ``arrived`` (requests that ever came: finished + aborted +
    in flight). Unknown is None in a point and NaN elsewhere; in a sum, what is not told of
    transferring and aborted adds nothing. Hardware has columns too, as shares, and is in no point.
    """

    __slots__ = ("_data", "_hardware", "times")

    def __init__(self, data: array[float], hardware: bytes | bytearray = b"") -> None:
        self._data = data
        self._hardware = hardware
        self.times = data[::WIDTH]
        """When the values were true."""

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Point]:
        return (self.point(index) for index in range(len(self)))

    def point(self, index: int) -> Point:
        """Return the sample at ``index``, from 0."""
        at, *values = self._data[index * WIDTH : (index + 1) * WIDTH]
        return Point(at, *(None if math.isnan(value) else value for value in values))

    def value(self, column: str, index: int) -> float:
        """Return one value of the sample at ``index``; -1 is the newest."""
        place = _PLACES.get(column)
        if place is not None:
            return self._data[index * WIDTH + place]
        if column in _BYTE:
            return self._share(_BYTE[column], index)
        return _SUMS[column](self._data, index * WIDTH)

    def ends(self, column: str, first: int, last: int) -> tuple[float, float, float] | None:
        """Return the first and the last known value between two samples, and the seconds between.

        None when fewer than two are known.
        """
        low, high = self.value(column, first), self.value(column, last)
        if math.isnan(low) or math.isnan(high):
            values = self.column(column, first, last + 1)
            known = [index for index, value in enumerate(values) if not math.isnan(value)]
            if len(known) < 2:  # noqa: PLR2004 - two samples make a rise
                return None
            low, high = values[known[0]], values[known[-1]]
            first, last = first + known[0], first + known[-1]
        return low, high, self.times[last] - self.times[first]

    def column(self, column: str, first: int, end: int) -> Sequence[float]:
        """Return the values of the samples from ``first`` to before ``end``."""
        place = _PLACES.get(column)
        if place is not None:
            return self._data[first * WIDTH + place : end * WIDTH : WIDTH]
        if column in _BYTE:
            return [self._share(_BYTE[column], index) for index in range(first, end)]
        reckon = _SUMS[column]
        return [reckon(self._data, start) for start in range(first * WIDTH, end * WIDTH, WIDTH)]

    @property
    def has_hardware(self) -> bool:
        """Whether anything was ever told of its hardware."""
        return bool(self._hardware)

    def _share(self, place: int, index: int) -> float:
        if not self._hardware:
            return _NAN
        percent = self._hardware[index * _BYTES + place]
        return _NAN if percent > 100 else percent / 100  # noqa: PLR2004 - per cent

    def tells(self, column: str) -> bool:
        """Return whether any sample knows ``column``."""
        if not self.times:
            return False
        newest_tells = not math.isnan(self.value(column, -1))
        return newest_tells or not all(map(math.isnan, self.column(column, 0, len(self))))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _queued(row: array[float], start: int) -> float:
    return row[start + _WAITING] + _or_zero(row[start + _MOVING])


def _in_flight(row: array[float], start: int) -> float:
    return _queued(row, start) + row[start + _RUNNING]


def _arrived(row: array[float], start: int) -> float:
    aborted, moving = _or_zero(row[start + _ABORTED]), _or_zero(row[start + _MOVING])
    return row[start + _FINISHED] + aborted + row[start + _RUNNING] + row[start + _WAITING] + moving


_FINISHED, _ABORTED, _RUNNING, _WAITING, _MOVING = (
    _PLACES[name]
    for name in ("requests_finished", "requests_aborted", "running", "waiting", "transferring")
)
_SUMS = {"queued": _queued, "in_flight": _in_flight, "arrived": _arrived}


class Track:
    """Samples of one engine, oldest first. Only scrapes of quality OK become points.

    A counter that falls cuts off all that came before: agents remove resets, and one that slips
    through must not become a rate.
    """

    __slots__ = ("_data", "_hardware", "quality", "spacing")

    def __init__(self, spacing: float = 5.0) -> None:
        self._data = array("d")
        self._hardware = bytearray()
        """A row of ``HARDWARE`` for each sample; empty while none of it was ever known."""
        self.quality = ScrapeQuality.MISSING
        self.spacing = spacing

    def add(self, sample: EngineSample, hardware: bytes = UNTOLD) -> None:
        """Take in a sample and its row of hardware; one older than the newest kept is dropped."""
        self.quality = sample.quality
        data = self._data
        if sample.quality is not ScrapeQuality.OK or (data and sample.at <= data[-WIDTH]):
            return
        row = _row(sample)
        if data and any(map(lt, row[1 : 1 + len(COUNTERS)], data[1 - WIDTH :])):
            del data[:]
            self._hardware.clear()
        if hardware != UNTOLD and not self._hardware:
            self._hardware.extend(UNTOLD * len(self))
        crowded = len(data) >= 2 * WIDTH and data[-WIDTH] - data[-2 * WIDTH] < self.spacing
        if crowded:
            data[-WIDTH:] = row
            if self._hardware:
                self._hardware[-_BYTES:] = hardware
            return
        if self._hardware or hardware != UNTOLD:
            self._hardware.extend(hardware)
        data.extend(row)
        if len(data) > SLOTS * WIDTH:
            del data[:WIDTH]
            del self._hardware[:_BYTES]

    @property
    def newest(self) -> Point | None:
        """The newest point, or None when there is none."""
        return Samples(self._data[-WIDTH:]).point(0) if self._data else None

    def age(self, now: float) -> float | None:
        """Seconds since the newest point's values were true; None when there is none."""
        return max(0.0, now - self._data[-WIDTH]) if self._data else None

    def fresh(self, now: float, freshness: float) -> bool:
        """Return whether the newest point is at most ``freshness`` seconds old."""
        age = self.age(now)
        return age is not None and age <= freshness

    def window(self, now: float, length: float) -> Samples:
        """Return the samples of the last ``length`` seconds and the one before them."""
        first = max(0, bisect_right(self._data[::WIDTH], now - length) - 1)
        return Samples(self._data[first * WIDTH :], self._hardware[first * _BYTES :])

    def __len__(self) -> int:
        return len(self._data) // WIDTH

    def __iter__(self) -> Iterator[Point]:
        return iter(Samples(self._data))


def _row(sample: EngineSample) -> array[float]:
    """Return a sample as it is kept. What cannot be (negative, infinite) is unknown, as NaN is."""
    ttft, tbt = sample.ttft, sample.tbt
    values = (
        sample.at,
        *sample[3:12],
        ttft.sum_seconds if ttft else None,
        ttft.observations if ttft else None,
        tbt.sum_seconds if tbt else None,
        tbt.observations if tbt else None,
    )
    return array(
        "d", [_NAN if value is None or not 0.0 <= value < _INF else value for value in values]
    )
