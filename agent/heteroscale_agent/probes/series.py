"""What a metrics page says of one reading: a small language for the files of engines and routers.

A mapping says for each reading which series make it up, newest names first. Every name is also
tried with `_total`. Samples that differ only in a *replica* label (tensor and pipeline ranks say
the same thing several times) count once; all others, data-parallel ranks above all, are summed.
What is missing, NaN, infinite, negative or absurd is unknown (None), never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from heteroscale_agent.model import LatencyReading
from heteroscale_agent.probes.engines.text import Sample, Samples

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
    beside: tuple[str, ...] = ()
    """Families that come into being before this one. A family, or a set of labels, that appears with
    its first event stands at zero once one of them is shown."""

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
    beside: tuple[str, ...] = (),
) -> Series:
    """Shorthand of mapping files."""
    return Series(names, where or {}, unless or {}, beside)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Sum of `plus`, less `minus`, and of those of `optional` that are shown at all."""

    plus: tuple[Series, ...] = ()
    minus: tuple[Series, ...] = ()
    optional: tuple[Series, ...] = ()

    def all_series(self) -> Iterator[Series]:
        """Every series that can play a part."""
        yield from (*self.plus, *self.minus, *self.optional)


UNTOLD = Series(())
"""What is never told."""

_NONE_YET = Sample({}, 0.0)


class Page:
    """The samples of one scrape, and how its readings are taken from them.

    ``model_name`` restricts to that model's series. A series that names no model (SGLang has a few)
    speaks of the whole engine; empty takes all.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        replica_labels: frozenset[str] = frozenset(),
        model_labels: tuple[str, ...] = ("model_name",),
        model_name: str = "",
    ) -> None:
        self._samples = samples
        self._replica_labels = replica_labels
        self._model_labels = model_labels
        self._models = ("", model_name) if model_name else ()

    def shows(self, names: Iterable[str]) -> bool:
        """Return whether any of these families is there, whatever its labels."""
        suffixes = ("", "_total", "_bucket", "_sum", "_count")
        return any(name + suffix in self._samples for name in names for suffix in suffixes)

    def _find(self, wanted: Series, suffixes: Sequence[str] = ("", "_total")) -> list[Sample]:
        """Return the samples of the first name that shows any; empty when none does."""
        for name in wanted.names:
            for suffix in suffixes:
                found = [s for s in self._samples.get(name + suffix, ()) if wanted.wants(s)]
                if self._models:
                    found = [s for s in found if self._is_of_model(s)]
                if found:
                    return found
        return [_NONE_YET] if wanted.beside and self.shows(wanted.beside) else []

    def _is_of_model(self, sample: Sample) -> bool:
        return all(sample.labels.get(name, "") in self._models for name in self._model_labels)

    def _distinct(self, samples: Sequence[Sample]) -> list[float]:
        """Return one value per rank that speaks for itself: the highest of its replicas."""
        if len(samples) == 1:
            return [samples[0].value]
        values: dict[frozenset[tuple[str, str]], float] = {}
        replicas = self._replica_labels
        for sample in samples:
            key = frozenset((k, v) for k, v in sample.labels.items() if k not in replicas)
            held = values.get(key, -math.inf)
            # NaN stays: one unknown replica makes the whole unknown.
            values[key] = held if math.isnan(held) or sample.value <= held else sample.value
        return list(values.values())

    def first(self, alternatives: Iterable[Quantity], ceiling: float) -> float | None:
        """Return the first quantity that is shown; None when none is, or it is above ``ceiling``."""
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

    def share(self, wanted: Series) -> float | None:
        """Return the usage of the fullest rank: the one that will queue first."""
        values = self._distinct(self._find(wanted))
        if not values or not all(0 <= value <= KV_SLACK for value in values):
            return None
        return min(max(values), 1.0)

    def latency(self, wanted: Series) -> LatencyReading | None:
        """Return a histogram, ranks added; without buckets where those do not fit together."""
        for name in wanted.names:
            one = Series((name,), wanted.where, wanted.unless)
            counts = self._find(one, ("_count",))
            if not counts:
                continue
            sums = self._find(one, ("_sum",))
            count = self._total([counts], MAX_TOKENS)
            seconds = self._total([sums], MAX_SECONDS)
            if len(sums) != len(counts) or count is None or seconds is None:
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
        if not bounds:
            return (), ()  # a summary, or nothing but the total: where they lie is unknown
        running = [self._total([by_bound[bound]], MAX_TOKENS) for bound in bounds]
        # Ranks with other bounds than their peers cannot be added bucket by bucket.
        uneven = len({len(found) for found in by_bound.values()}) > 1
        steps = [0.0, *(-1.0 if value is None else value for value in running), count]
        counts = tuple(b - a for a, b in pairwise(steps))
        if uneven or not all(map(math.isfinite, bounds)) or any(c < 0 for c in counts):
            return (), ()
        return bounds, counts
