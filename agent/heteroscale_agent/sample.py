"""Readings to one report: what grows is made to grow for ever. Pure; time is an argument.

Engines restart, 32-bit counters wrap, and a reading may be nonsense. The report's counters start
at zero when a source is first seen and only ever grow, so that any two reports give a rate:

- lower than before by more than a tenth: the source restarted, what it shows now is new;
- lower by less: two readings taken apart in time, nothing new;
- higher than any machine could have come in the time: absurd, unknown, and not remembered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Generic, TypeVar

from heteroscale.words import LATENCY_BOUNDS_MS, ScrapeQuality
from heteroscale_agent.model import (
    EngineReport,
    EngineScrape,
    LatencyCounters,
    LatencyReading,
    Report,
    RouterReport,
    RouterScrape,
)

MAX_TOKENS_PER_SECOND = 5e6
"""Of one instance, cache hits included; the largest published ones do a tenth of it."""
MAX_REQUESTS_PER_SECOND = 1e5
MAX_OBSERVATION_SECONDS = 36_000.0
JITTER = 0.9
"""A counter at this part of its last value or above did not restart."""

_SHORTEST = 1.0
"""Seconds allowed for at least, when judging how much could have happened since."""

Number = TypeVar("Number", int, float)
Told = TypeVar("Told", EngineReport, RouterReport)


@dataclass(slots=True)
class Counter(Generic[Number]):
    """One counter of a source, with resets, wraps and absurd readings taken out."""

    zero: Number
    most_per_second: Number
    wrap: Number | None = None
    total: Number = field(init=False)
    _last: Number | None = field(init=False, default=None)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.total = self.zero

    def fold(self, raw: Number | None, at: float) -> Number | None:
        """Take in a reading of time `at` (s); return the total so far, None when unknown."""
        if raw is None:
            return None
        if self._last is None:
            self._last, self._at = raw, at
            return self.total
        most = self.most_per_second * max(at - self._at, _SHORTEST)
        gained = self._gained(raw, self._last, most)
        if gained is None:
            return None
        if gained or raw < self._last * JITTER:
            self._last = raw
        self._at = at
        self.total += gained
        return self.total

    def _gained(self, raw: Number, last: Number, most: float) -> Number | None:
        if raw >= last:
            return raw - last if raw - last <= most else None
        if self.wrap is not None and last < self.wrap and raw + self.wrap - last <= most:
            return raw + self.wrap - last
        if raw >= last * JITTER:
            return self.zero
        # Restarted. What it claims to have done since cannot be more than the time allowed.
        return raw if raw <= most else self.zero


def tokens() -> Counter[float]:
    """Return a counter of tokens."""
    return Counter(0.0, MAX_TOKENS_PER_SECOND)


def requests() -> Counter[float]:
    """Return a counter of requests."""
    return Counter(0.0, MAX_REQUESTS_PER_SECOND)


_BUCKETS = len(LATENCY_BOUNDS_MS) + 1


@dataclass(slots=True)
class Latency:
    """A histogram of a source: totals since first seen, and buckets since last reported."""

    sum_seconds: float = 0.0
    count: float = 0.0
    _last: LatencyReading | None = None
    _at: float = 0.0
    _pending: list[float] = field(default_factory=lambda: [0.0] * _BUCKETS)

    def fold(self, reading: LatencyReading | None, at: float) -> bool:
        """Take in a reading of time `at` (s); False when it is unknown or absurd."""
        if reading is None:
            return False
        before = self._last
        if before is not None:
            if before.count * JITTER <= reading.count < before.count:
                return True
            if reading.count < before.count or reading.sum_seconds < before.sum_seconds * JITTER:
                before = LatencyReading(0.0, 0.0)
            if not self._add(reading, before, max(at - self._at, _SHORTEST)):
                return False
        self._last, self._at = reading, at
        return True

    def _add(self, new: LatencyReading, old: LatencyReading, elapsed: float) -> bool:
        count = new.count - old.count
        seconds = max(0.0, new.sum_seconds - old.sum_seconds)
        # One more than counted: an exporter may show the sum of an observation before its count.
        most_seconds = MAX_OBSERVATION_SECONDS * (count + 1)
        if count > MAX_TOKENS_PER_SECOND * elapsed or seconds > most_seconds:
            return False
        self.count += count
        self.sum_seconds += seconds
        same = new.bounds == old.bounds
        earlier = old.counts if same else (0.0,) * len(new.counts)
        # With other bounds than before, nobody knows which of the observations are new.
        if same or not old.count:
            for index, bound in enumerate((*new.bounds, float("inf"))[: len(new.counts)]):
                gained = new.counts[index] - earlier[index]
                self._pending[grid_bucket(bound)] += max(0.0, gained)
        return True

    def report(self) -> LatencyCounters:
        """Return the totals and hand over the buckets; what was handed over is not told again."""
        counts = [round(value) for value in self._pending]
        self._pending = [0.0] * _BUCKETS
        while counts and counts[-1] == 0:
            counts.pop()
        return LatencyCounters(self.sum_seconds, self.count, tuple(counts))


@lru_cache(maxsize=1024)
def grid_bucket(bound_seconds: float) -> int:
    """Return the grid bucket of an engine bucket that ends at `bound_seconds`.

    It is the one its upper bound falls into: exact where the bounds agree, and otherwise never
    better than what really was, so that an SLO is not held met by rounding.
    """
    return bisect_left(LATENCY_BOUNDS_MS, round(bound_seconds * 1000, 6))


@dataclass(slots=True)
class EngineSampler:
    """Everything cumulative about one instance."""

    _counters: dict[str, Counter[float]] = field(
        default_factory=lambda: {
            "generation_tokens": tokens(),
            "prompt_tokens": tokens(),
            "computed_prompt_tokens": tokens(),
            "requests_finished": requests(),
            "requests_aborted": requests(),
        }
    )
    _ttft: Latency = field(default_factory=Latency)
    _tbt: Latency = field(default_factory=Latency)
    _known: dict[str, float | None] = field(default_factory=dict)
    _ttft_known: bool = False
    _tbt_known: bool = False
    _scrape: EngineScrape | None = None

    def fold(self, scrape: EngineScrape, at: float) -> None:
        """Take in a scrape that was begun at `at` (s)."""
        self._scrape = scrape
        self._known = {
            name: counter.fold(getattr(scrape, name), at)
            for name, counter in self._counters.items()
        }
        self._ttft_known = self._ttft.fold(scrape.time_to_first_token, at)
        self._tbt_known = self._tbt.fold(scrape.time_between_tokens, at)

    def report(self, instance_id: str, quality: ScrapeQuality, age: float) -> EngineReport:
        """Return the engine's part of a report; a MISSING one says nothing else."""
        scrape = self._scrape
        if quality is ScrapeQuality.MISSING or scrape is None:
            return EngineReport(instance_id, ScrapeQuality.MISSING, age)
        return EngineReport(
            instance_id,
            quality,
            age,
            **self._known,
            running=scrape.running,
            waiting=scrape.waiting,
            transferring=scrape.transferring,
            kv_usage=scrape.kv_usage,
            time_to_first_token=self._ttft.report() if self._ttft_known else None,
            time_between_tokens=self._tbt.report() if self._tbt_known else None,
        )


_ROUTER_COUNTERS = ("requests_finished", "requests_failed", "requests_rejected")


@dataclass(slots=True)
class RouterSampler:
    """Everything cumulative about one router."""

    _counters: dict[str, Counter[float]] = field(
        default_factory=lambda: {name: requests() for name in _ROUTER_COUNTERS}
    )
    _ttft: Latency = field(default_factory=Latency)
    _tbt: Latency = field(default_factory=Latency)
    _told: dict[str, float | None] = field(default_factory=dict)
    _ttft_known: bool = False
    _tbt_known: bool = False
    _scrape: RouterScrape | None = None

    def fold(self, scrape: RouterScrape, at: float) -> None:
        """Take in a scrape that was begun at `at` (s)."""
        self._scrape = scrape
        self._told = {
            name: counter.fold(getattr(scrape, name), at)
            for name, counter in self._counters.items()
        }
        self._ttft_known = self._ttft.fold(scrape.time_to_first_token, at)
        self._tbt_known = self._tbt.fold(scrape.time_between_tokens, at)

    def report(
        self, name: str, service: str, url: str, quality: ScrapeQuality, age: float
    ) -> RouterReport:
        """Return the router's part of a report; a MISSING one says nothing else."""
        scrape = self._scrape
        if quality is ScrapeQuality.MISSING or scrape is None:
            return RouterReport(name, service, url, ScrapeQuality.MISSING, age)
        return RouterReport(
            name,
            service,
            url,
            quality,
            age,
            time_to_first_token=self._ttft.report() if self._ttft_known else None,
            time_between_tokens=self._tbt.report() if self._tbt_known else None,
            **self._told,
            running=scrape.running,
            waiting=scrape.waiting,
        )


def merge(older: Report, newer: Report) -> Report:
    """Return one report that says all that two consecutive ones say.

    Counters and gauges are the newer one's; bucket deltas and intervals add up. For a sender that
    reports less often than it samples, or whose queue is full.
    """
    engines = {engine.instance_id: engine for engine in older.engines}
    routers = {router.name: router for router in older.routers}
    return replace(
        newer,
        interval=older.interval + newer.interval,
        engines=tuple(_with_deltas(engines.get(one.instance_id), one) for one in newer.engines),
        routers=tuple(_with_deltas(routers.get(one.name), one) for one in newer.routers),
    )


def _with_deltas(older: Told | None, newer: Told) -> Told:
    if older is None:
        return newer
    return replace(
        newer,
        time_to_first_token=_merge_latency(older.time_to_first_token, newer.time_to_first_token),
        time_between_tokens=_merge_latency(older.time_between_tokens, newer.time_between_tokens),
    )


def _merge_latency(
    older: LatencyCounters | None, newer: LatencyCounters | None
) -> LatencyCounters | None:
    if older is None or newer is None:
        return newer
    deltas = _add_columns(older.bucket_deltas, newer.bucket_deltas)
    return replace(newer, bucket_deltas=deltas)


def _add_columns(left: Iterable[int], right: Iterable[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(left, right, fillvalue=0))
