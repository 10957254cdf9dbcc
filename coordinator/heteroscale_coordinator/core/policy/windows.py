"""What one engine did over a window of its track: rates, lowest and mean gauges, holes.

Windows begin and end at samples, so a rate is exact over the span it names.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from math import isnan
from typing import Literal, NamedTuple

from heteroscale_coordinator.core.policy.view import Member
from heteroscale_coordinator.core.spec import PolicySpec, ServiceSpec
from heteroscale_coordinator.core.track import SLOTS, Samples, Track

Counter = Literal[
    "generation_tokens",
    "prompt_tokens",
    "computed_prompt_tokens",
    "requests_finished",
    "requests_aborted",
    "arrived",
    "running",
    "ttft_sum",
    "ttft_count",
    "tbt_sum",
    "tbt_count",
]
Gauge = Literal[
    "running",
    "waiting",
    "transferring",
    "queued",
    "kv_usage",
    "in_flight",
    "gpu_util",
    "sm_activity",
    "rdma_share",
]
PATIENCE = 2.0
"""What piled up during a start may take so many times as long to go as more launched for it would."""
UNHEARD = Track().window(0.0, 0.0)
"""No samples."""


class Span(NamedTuple):
    """Samples of a window with the one before, from ``first`` to ``last``; at least two."""

    samples: Samples
    first: int
    last: int

    @property
    def seconds(self) -> float:
        """What it spans."""
        return self.samples.times[self.last] - self.samples.times[self.first]

    def rise(self, counter: Counter) -> float | None:
        """Return how much a counter rose from its first known value to its last; None if unknown."""
        known = self.samples.ends(counter, self.first, self.last)
        return None if known is None else known[1] - known[0]

    def rate(self, counter: Counter) -> float | None:
        """Return the rise per second, never negative; None if unknown."""
        known = self.samples.ends(counter, self.first, self.last)
        return None if known is None else max(0.0, known[1] - known[0]) / known[2]

    def gauges(self, gauge: Gauge) -> list[float]:
        """Return the known values of a gauge inside the window (without the sample before it)."""
        values = self.samples.column(gauge, self.first + 1, self.last + 1)
        return [value for value in values if not isnan(value)]


@dataclass(slots=True, eq=False)
class Engine:
    """One member as the laws read it. ``target`` is its τ in tokens/s."""

    member: Member
    samples: Samples
    """Those of the long window, oldest first."""
    fresh: bool
    target: float
    spacing: float = 5.0
    young: bool = False
    """In service for less than the short window: it says little yet, and is not guessed at."""
    missed: float = 0.0
    """Seconds of work that piled up while it started, and that it answers (see ``backlog``)."""
    aside: bool = field(default=False, init=False)
    """Whether its readings stand so far apart that sums bound them by its peers'."""
    carrying: bool = field(init=False)
    """Whether traffic is sent to it, as far as is known."""
    _spans: dict[tuple[float, float], Span | None] = field(default_factory=dict, init=False)
    """Spans already cut: every law asks for the same few."""
    _rates: dict[tuple[Counter, float, float], float | None] = field(
        default_factory=dict, init=False
    )
    """Rates already reckoned, likewise."""

    def __post_init__(self) -> None:
        self.carrying = self.member.carrying

    def newest(self, gauge: Gauge) -> float | None:
        """Return the newest value of a gauge; None if unknown, or not fresh."""
        if not self.fresh:
            return None
        value = self.samples.value(gauge, -1)
        return None if isnan(value) else value

    def span(self, length: float, offset: float = 0.0) -> Span | None:
        """Return the samples of ``length`` seconds that ended ``offset`` before the newest.

        None when fewer than two are known. A younger track gives what there is.
        """
        key = (length, offset)
        if key not in self._spans:
            self._spans[key] = self._cut(length, offset)
        return self._spans[key]

    def _cut(self, length: float, offset: float) -> Span | None:
        times = self.samples.times
        if len(times) < 2:  # noqa: PLR2004 - two samples make a rate
            return None
        end = times[-1] - offset + 1e-6
        last = bisect_right(times, end) - 1
        first = max(0, bisect_right(times, end - length, 0, last + 1) - 1)
        return Span(self.samples, first, last) if last > first else None

    def reaches(self, length: float, freshness: float) -> bool:
        """Return whether its samples cover ``length`` seconds without a hole.

        A window longer than a track can hold is covered as far as the track goes; ``low_since`` in
        the policy's memory stands for the rest. A sample that does not say what is in flight (a
        page of NaNs) covers nothing, however fresh it is.
        """
        if not self.fresh:
            return False
        length = min(length, (SLOTS - 2) * self.spacing)
        hole = max(freshness, 2 * self.spacing)
        times = self.samples.times
        held = self.samples.column("in_flight", 0, len(times))
        end, begin = times[-1], times[-1] - length
        telling = [at for at, value in zip(times, held, strict=True) if not isnan(value)]
        if not telling or telling[0] > begin + 1e-6 or end - telling[-1] > hole:
            return False
        return not any(newer > begin and newer - older > hole for older, newer in pairwise(telling))

    def idle(self, length: float) -> bool:
        """Return whether it is known to do nothing: fresh, nothing held, no new token."""
        if self.newest("in_flight") != 0:
            return False
        span = self.span(length)
        if span is None:
            return False
        return not any(span.rise(name) for name in ("generation_tokens", "prompt_tokens"))

    def rate(self, counter: Counter, length: float, offset: float = 0.0) -> float | None:
        """Return a counter's rate; an engine that is idle has rate 0 even if it never told it."""
        key = (counter, length, offset)
        if key not in self._rates:
            self._rates[key] = self._rate(counter, length, offset) if self.fresh else None
        return self._rates[key]

    def came(self, length: float, offset: float = 0.0) -> float | None:
        """Return the requests/s that came, negative when queued ones were moved to other engines.

        What a young engine held when it was first heard came in the window too.
        """
        span = self.span(length, offset) if self.fresh else None
        if self.young and self.fresh:
            begun = self.samples.value("in_flight", 0)
            rise = (span.rise("arrived") if span else None) or 0.0
            return None if isnan(begun) or offset else (begun + rise) / length
        known = span.samples.ends("arrived", span.first, span.last) if span else None
        if known is None:
            return self.rate("arrived", length, offset)
        return (known[1] - known[0]) / known[2]

    def _rate(self, counter: Counter, length: float, offset: float) -> float | None:
        span = self.span(length, offset)
        if span is None:
            return None
        known = span.rate(counter)
        if known is None and not any(span.gauges("in_flight")) and self.idle(length + offset):
            return 0.0
        return known


def engine_of(member: Member, spec: ServiceSpec, now: float) -> Engine:
    """Return the member's engine as heard up to ``now``."""
    target = spec.roles[member.instance.role].target_of(member.instance.gpu_type)
    track, policy = member.track, spec.policy
    young = member.carrying and 0 <= now - member.instance.changed_at < policy.window_out
    missed = _missed(member, policy, now)
    if track is None:
        return Engine(member, UNHEARD, fresh=False, target=target, young=young, missed=missed)
    reach = policy.window_in + policy.freshness
    fresh = track.fresh(now, policy.freshness)
    samples = track.window(now, reach)
    return Engine(member, samples, fresh, target, track.spacing, young, missed)


def _missed(member: Member, policy: PolicySpec, now: float) -> float:
    """Return how long it has been starting; once it serves, how long it was, for a while yet."""
    since = now - member.instance.created_at
    if member.starting:
        return max(0.0, since)
    took = member.instance.startup_time
    if took is None or not member.carrying:
        return 0.0
    return took if since - took < PATIENCE * (took + policy.backlog_horizon) else 0.0
