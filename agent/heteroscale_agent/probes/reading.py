"""What a metrics page's values come to, once it is known which of them make up a reading.

Each of these says on which lines its values stand, and takes all values of a scrape, in the order of
the lines. They are made by `series.Layout`, and evaluated for every scrape: so nothing here knows of
names or labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from heteroscale_agent.model import LatencyReading

Group = tuple[int, ...]
"""Places of one rank's replicas, which all say the same: the highest counts."""
Values = Sequence[float]

KV_SLACK = 1.05
"""KV usage a little above 1 is an engine's rounding and reads as 1; more is absurd."""

Told = TypeVar("Told", float, LatencyReading)
Read_co = TypeVar("Read_co", covariant=True)


class Reading(Protocol[Read_co]):
    """Something that values come to."""

    def of(self, values: Values) -> Read_co:
        """Return it; None when it is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Never:
    """What the page does not show."""

    def of(self, _: Values) -> None:
        """Return None: unknown."""


NEVER = Never()


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum over ranks, unknown where one is absurd. Of none it is zero."""

    groups: tuple[Group, ...]
    ceiling: float

    def of(self, values: Values) -> float | None:
        """Return the sum."""
        told = [_highest(values, group) for group in self.groups]
        for value in told:
            if not 0 <= value <= self.ceiling:
                return None
        return told[0] if len(told) == 1 else math.fsum(told)


@dataclass(frozen=True, slots=True)
class Difference:
    """One amount less another; less than nothing is unknown."""

    added: Amount
    taken: Amount

    def of(self, values: Values) -> float | None:
        """Return the difference."""
        added, taken = self.added.of(values), self.taken.of(values)
        if added is None or taken is None or taken > added:
            return None
        return added - taken


@dataclass(frozen=True, slots=True)
class Share:
    """The usage of the fullest rank: the one that will queue first."""

    groups: tuple[Group, ...]

    def of(self, values: Values) -> float | None:
        """Return it, at most 1."""
        told = [_highest(values, group) for group in self.groups]
        if not all(0 <= value <= KV_SLACK for value in told):
            return None
        return min(max(told), 1.0)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Bounds, ascending and finite, and what is counted below each."""

    bounds: tuple[float, ...]
    below: tuple[Amount, ...]

    def counts(self, values: Values, count: float) -> tuple[float, ...] | None:
        """Return how many of ``count`` are in each bucket; None when they do not add up."""
        running = [amount.of(values) for amount in self.below]
        steps = [0.0, *(-1.0 if value is None else value for value in running), count]
        counts = tuple([b - a for a, b in pairwise(steps)])
        return counts if min(counts) >= 0 else None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Seconds, observations, and buckets where there are any."""

    seconds: Amount
    observed: Amount
    buckets: Buckets | None

    def of(self, values: Values) -> LatencyReading | None:
        """Return the histogram."""
        seconds, count = self.seconds.of(values), self.observed.of(values)
        if seconds is None or count is None:
            return None
        counts = None if self.buckets is None else self.buckets.counts(values, count)
        if self.buckets is None or counts is None:
            return LatencyReading(seconds, count)
        return LatencyReading(seconds, count, self.buckets.bounds, counts)


@dataclass(frozen=True, slots=True)
class Unused(Generic[Told]):
    """What an engine does not show before its first request: it stands at zero while there is none."""

    zero: Told
    running: Reading[float | None]
    waiting: Reading[float | None]

    def of(self, values: Values) -> Told | None:
        """Return zero, or None where requests came without it."""
        return self.zero if self.running.of(values) == self.waiting.of(values) == 0 else None


def _highest(values: Values, group: Group) -> float:
    if len(group) == 1:
        return values[group[0]]
    told = [values[place] for place in group]
    # One unknown replica makes the whole unknown.
    return math.nan if any(map(math.isnan, told)) else max(told)
