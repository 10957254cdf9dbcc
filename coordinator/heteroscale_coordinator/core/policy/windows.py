"""What one engine did over a window of its track: rates, lowest and mean gauges, holes.

Windows begin and end at samples, so a rate is exact over the span it names. A counter that fell
cuts off everything before (agents remove resets; one that slips through must not become a rate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from heteroscale_coordinator.core.policy.view import Member
from heteroscale_coordinator.core.spec import PolicySpec, ServiceSpec
from heteroscale_coordinator.core.track import SLOTS, Point

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
Gauge = Literal["running", "waiting", "transferring", "queued", "kv_usage", "in_flight"]


class Span(NamedTuple):
    """Samples of a window with the one before, oldest first; at least two."""

    points: Sequence[Point]

    @property
    def seconds(self) -> float:
        """Time from the first to the last sample."""
        return self.points[-1].at - self.points[0].at

    def rise(self, counter: Counter) -> float | None:
        """Return how much a counter rose from its first known value to its last; None if unknown."""
        known = self._ends(counter)
        return None if known is None else known[1] - known[0]

    def rate(self, counter: Counter) -> float | None:
        """Return the rise per second, never negative; None if unknown."""
        known = self._ends(counter)
        return None if known is None else max(0.0, known[1] - known[0]) / known[2]

    def gauges(self, gauge: Gauge) -> list[float]:
        """Return the known values of a gauge inside the window (without the sample before it)."""
        values = [gauge_of(point, gauge) for point in self.points[1:]]
        return [value for value in values if value is not None]

    def _ends(self, counter: Counter) -> tuple[float, float, float] | None:
        told = getattr
        first, last = self.points[0], self.points[-1]
        low, high = told(first, counter), told(last, counter)
        if low is None or high is None:
            known = [point for point in self.points if told(point, counter) is not None]
            if len(known) < 2:  # noqa: PLR2004 - two samples make a rate
                return None
            first, last = known[0], known[-1]
            low, high = told(first, counter), told(last, counter)
        return low, high, last.at - first.at


def gauge_of(point: Point, gauge: Gauge) -> float | None:
    """Return a gauge of a sample; ``in_flight`` is running + waiting + transferring."""
    if gauge == "in_flight":
        queued = point.queued
        return None if queued is None or point.running is None else queued + point.running
    value: float | None = getattr(point, gauge)
    return value


@dataclass(frozen=True, slots=True)
class Engine:
    """One member as the laws read it. ``target`` is its τ in tokens/s."""

    member: Member
    points: tuple[Point, ...]
    """Usable samples of the long window, oldest first."""
    fresh: bool
    target: float
    spacing: float = 5.0
    _spans: dict[tuple[float, float], Span | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Spans already cut: every law asks for the same few."""

    @property
    def carrying(self) -> bool:
        """Whether traffic is sent to it, as far as is known."""
        return self.member.carrying

    def span(self, length: float, offset: float = 0.0) -> Span | None:
        """Return the samples of ``length`` seconds that ended ``offset`` before the newest.

        None when fewer than two are known. A younger track gives what there is.
        """
        key = (length, offset)
        if key not in self._spans:
            self._spans[key] = self._cut(length, offset)
        return self._spans[key]

    def _cut(self, length: float, offset: float) -> Span | None:
        if len(self.points) < 2:  # noqa: PLR2004 - two samples make a rate
            return None
        end = self.points[-1].at - offset + 1e-6
        last = next(
            (i for i in range(len(self.points) - 1, -1, -1) if self.points[i].at <= end), -1
        )
        first = last
        while first > 0 and self.points[first].at > end - length:
            first -= 1
        return Span(self.points[first : last + 1]) if last > first else None

    def reaches(self, length: float, freshness: float) -> bool:
        """Return whether its samples cover ``length`` seconds without a hole.

        A window longer than a track can hold is covered as far as the track goes; ``low_since`` in
        the policy's memory stands for the rest. A sample that does not say what is in flight (a
        page of NaNs) covers nothing, however fresh it is.
        """
        if not self.fresh or not self.points:
            return False
        length = min(length, (SLOTS - 2) * self.spacing)
        hole = max(freshness, 2 * self.spacing)
        end = self.points[-1].at
        begin = end - length
        telling = [point.at for point in self.points if gauge_of(point, "in_flight") is not None]
        if not telling or telling[0] > begin + 1e-6 or end - telling[-1] > hole:
            return False
        return not any(newer > begin and newer - older > hole for older, newer in pairwise(telling))

    def idle(self, length: float) -> bool:
        """Return whether it is known to do nothing: fresh, nothing held, no new token."""
        if not self.fresh or not self.points or gauge_of(self.points[-1], "in_flight") != 0:
            return False
        span = self.span(length)
        if span is None:
            return False
        return not any(span.rise(name) for name in ("generation_tokens", "prompt_tokens"))

    def rate(self, counter: Counter, length: float, offset: float = 0.0) -> float | None:
        """Return a counter's rate; an engine that is idle has rate 0 even if it never told it."""
        if not self.fresh:
            return None
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
    track = member.track
    if track is None:
        return Engine(member, (), fresh=False, target=target)
    reach = spec.policy.window_in + spec.policy.freshness
    points = usable(track.window(now, reach))
    fresh = bool(points) and track.fresh(now, spec.policy.freshness)
    return Engine(member, points, fresh, target, track.spacing)


def usable(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the samples since any counter last fell; ``COUNTERS`` are a point's fields 1 to 4."""
    start = 0
    for i in range(1, len(points)):
        for old, new in zip(points[i - 1][1:5], points[i][1:5], strict=True):
            if old is not None and new is not None and new < old:
                start = i
    return tuple(points[start:])


def track_spacing(policy: PolicySpec) -> float:
    """Return the seconds between kept samples with which a track serves both windows.

    Three samples in the short window where the track's slots then still hold the long one.
    """
    return max(policy.window_out / 3, policy.window_in / (SLOTS - 4))
