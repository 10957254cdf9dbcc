"""How an engine's metrics become an `EngineScrape`: a small language for mapping files.

A mapping says for each reading which series make it up, newest names first. Every name is also
tried with `_total`. Samples that differ only in a *replica* label (tensor and pipeline ranks say
the same thing several times) count once; all others, data-parallel ranks above all, are summed.
What is missing, NaN, infinite, negative or absurd is unknown (None), never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from heteroscale_agent.model import EngineScrape, LatencyReading
from heteroscale_agent.probes.engines.text import FamilyFilter, MetricsTextError, Sample, Samples

MAX_TOKENS = 1e15
MAX_REQUESTS = 1e12
MAX_QUEUE = 1e7
MAX_SECONDS = 1e13
KV_SLACK = 1.05
"""KV usage a little above 1 is an engine's rounding and reads as 1; more is absurd."""


@dataclass(frozen=True, slots=True)
class Series:
    """One family under all its names, restricted to some label values (absent label: `""`)."""

    names: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def wants(self, sample: Sample) -> bool:
        """Tell whether the sample's labels are among those asked for."""
        labels = sample.labels
        return all(labels.get(k, "") in v for k, v in self.where.items()) and not any(
            labels.get(k, "") in v for k, v in self.unless.items()
        )


def series(
    *names: str,
    where: Mapping[str, tuple[str, ...]] | None = None,
    unless: Mapping[str, tuple[str, ...]] | None = None,
) -> Series:
    """Shorthand of mapping files."""
    return Series(names, where or {}, unless or {})


@dataclass(frozen=True, slots=True)
class Quantity:
    """Sum of `plus`, less `minus`, and of those of `optional` that are shown at all."""

    plus: tuple[Series, ...] = ()
    minus: tuple[Series, ...] = ()
    optional: tuple[Series, ...] = ()

    def all_series(self) -> Iterator[Series]:
        """Every series that can play a part."""
        yield from (*self.plus, *self.minus, *self.optional)


@dataclass(frozen=True)
class EngineMapping:
    """What an engine calls our readings. Several quantities: the first that is shown wins.

    What a mapping leaves out, the engine never tells: it is unknown for ever.
    """

    name: str
    generation_tokens: tuple[Quantity, ...] = ()
    prompt_tokens: tuple[Quantity, ...] = ()
    computed_prompt_tokens: tuple[Quantity, ...] = ()
    requests_finished: tuple[Quantity, ...] = ()
    requests_aborted: tuple[Quantity, ...] = ()
    running: tuple[Quantity, ...] = ()
    waiting: tuple[Quantity, ...] = ()
    transferring: tuple[Quantity, ...] = ()
    kv_usage: Series = Series(())
    time_to_first_token: Series = Series(())
    time_between_tokens: Series = Series(())
    replica_labels: frozenset[str] = frozenset()
    counters_appear_on_use: bool = False
    """The engine shows no counter at all before its first request; then they all stand at zero."""
    experimental: bool = False
    """Written from documented names alone: no text recorded from a release stands in the tests."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """What an HTTP status of the metrics page means with this engine, and what to do about it."""

    @cached_property
    def counter_names(self) -> frozenset[str]:
        """Names of everything that only ever grows."""
        quantities = (
            *self.generation_tokens,
            *self.prompt_tokens,
            *self.computed_prompt_tokens,
            *self.requests_finished,
            *self.requests_aborted,
        )
        histograms = (self.time_to_first_token, self.time_between_tokens)
        found = (s for q in quantities for s in q.all_series())
        return frozenset(name for s in (*found, *histograms) for name in s.names)

    @cached_property
    def filter(self) -> FamilyFilter:
        """The lines of a metrics text that this mapping can use."""
        quantities = (*self.running, *self.waiting, *self.transferring)
        gauges = (s for q in quantities for s in q.all_series())
        names = {name for s in (*gauges, self.kv_usage) for name in s.names}
        return FamilyFilter(names | self.counter_names)


def read(mapping: EngineMapping, text: str, model_name: str = "") -> EngineScrape:
    """Read one scrape. `model_name` restricts to that model's series; empty takes all.

    Raises:
        MetricsTextError: the text has no metric of this engine, or cannot be read.

    """
    samples = mapping.filter.samples(text)
    if not samples:
        raise MetricsTextError(f"no {mapping.name} metric in the answer")
    return _Reader(mapping, samples, model_name).scrape()


class _Reader:
    """Evaluates one mapping over the samples of one scrape."""

    def __init__(self, mapping: EngineMapping, samples: Samples, model_name: str) -> None:
        self._mapping = mapping
        self._samples = samples
        # A series that names no model (SGLang has a few) speaks of the whole engine.
        self._models = ("", model_name) if model_name else ()

    def scrape(self) -> EngineScrape:
        m = self._mapping
        running = self._first(m.running, MAX_QUEUE)
        waiting = self._first(m.waiting, MAX_QUEUE)
        transferring = self._first(m.transferring, MAX_QUEUE)
        kv_usage = self._kv_usage()
        if self._nothing_served_yet(running, waiting):
            nothing = LatencyReading(0.0, 0.0)
            return EngineScrape(
                *(0.0,) * 5, running, waiting, transferring, kv_usage, nothing, nothing
            )
        return EngineScrape(
            generation_tokens=self._first(m.generation_tokens, MAX_TOKENS),
            prompt_tokens=self._first(m.prompt_tokens, MAX_TOKENS),
            computed_prompt_tokens=self._first(m.computed_prompt_tokens, MAX_TOKENS),
            requests_finished=self._first(m.requests_finished, MAX_REQUESTS),
            requests_aborted=self._first(m.requests_aborted, MAX_REQUESTS),
            running=running,
            waiting=waiting,
            transferring=transferring,
            kv_usage=kv_usage,
            time_to_first_token=self._latency(m.time_to_first_token),
            time_between_tokens=self._latency(m.time_between_tokens),
        )

    def _nothing_served_yet(self, running: float | None, waiting: float | None) -> bool:
        if not self._mapping.counters_appear_on_use or running != 0 or waiting != 0:
            return False
        names = self._mapping.counter_names
        suffixes = ("", "_total", "_bucket", "_sum", "_count")
        return not any(name + suffix in self._samples for name in names for suffix in suffixes)

    def _find(self, wanted: Series, suffixes: Sequence[str] = ("", "_total")) -> list[Sample]:
        """Return the samples of the first name that shows any; empty when none does."""
        for name in wanted.names:
            for suffix in suffixes:
                found = [s for s in self._samples.get(name + suffix, ()) if wanted.wants(s)]
                if self._models:
                    found = [s for s in found if s.labels.get("model_name", "") in self._models]
                if found:
                    return found
        return []

    def _distinct(self, samples: Sequence[Sample]) -> list[float]:
        """Return one value per rank that speaks for itself: the highest of its replicas."""
        if len(samples) == 1:
            return [samples[0].value]
        values: dict[frozenset[tuple[str, str]], float] = {}
        replicas = self._mapping.replica_labels
        for sample in samples:
            key = frozenset((k, v) for k, v in sample.labels.items() if k not in replicas)
            held = values.get(key, -math.inf)
            # NaN stays: one unknown replica makes the whole unknown.
            values[key] = held if math.isnan(held) or sample.value <= held else sample.value
        return list(values.values())

    def _first(self, alternatives: Iterable[Quantity], ceiling: float) -> float | None:
        for quantity in alternatives:
            plus = [self._find(s) for s in quantity.plus]
            minus = [self._find(s) for s in quantity.minus]
            optional = [found for s in quantity.optional if (found := self._find(s))]
            if not all(plus) or not all(minus) or not (plus or optional):
                continue
            added = self._total((*plus, *optional), ceiling)
            taken = self._total(minus, ceiling)
            if added is None or taken is None or taken > added:
                return None
            return added - taken
        return None

    def _total(self, groups: Iterable[Sequence[Sample]], ceiling: float) -> float | None:
        values = [value for samples in groups for value in self._distinct(samples)]
        if not all(0 <= value <= ceiling for value in values):
            return None
        return math.fsum(values)

    def _kv_usage(self) -> float | None:
        """Return the usage of the fullest rank: the one that will queue first."""
        values = self._distinct(self._find(self._mapping.kv_usage))
        if not values or not all(0 <= value <= KV_SLACK for value in values):
            return None
        return min(max(values), 1.0)

    def _latency(self, wanted: Series) -> LatencyReading | None:
        for name in wanted.names:
            one = Series((name,), wanted.where, wanted.unless)
            counts = self._find(one, ("_count",))
            if not counts:
                continue
            count = self._total([counts], MAX_TOKENS)
            seconds = self._total([self._find(one, ("_sum",))], MAX_SECONDS)
            if count is None or seconds is None:
                return None
            bounds, buckets = self._buckets(self._find(one, ("_bucket",)), count)
            return LatencyReading(seconds, count, bounds, buckets)
        return None

    def _buckets(
        self, samples: Iterable[Sample], count: float
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return bounds and counts per bucket, or nothing when they do not fit together."""
        by_bound: dict[float, list[Sample]] = {}
        for sample in samples:
            try:
                bound = float(sample.labels.get("le", ""))
            except ValueError:
                return (), ()
            by_bound.setdefault(bound, []).append(sample)
        by_bound.pop(math.inf, None)
        bounds = tuple(sorted(by_bound))
        running = [self._total([by_bound[bound]], MAX_TOKENS) for bound in bounds]
        # Ranks with other bounds than their peers cannot be added bucket by bucket.
        uneven = len({len(found) for found in by_bound.values()}) > 1
        steps = [0.0, *(-1.0 if value is None else value for value in running), count]
        counts = tuple(b - a for a, b in pairwise(steps))
        if uneven or not all(map(math.isfinite, bounds)) or any(c < 0 for c in counts):
            return (), ()
        return bounds, counts
