"""When a window is in force, and when it comes next: cron times on the clocks of a zone.

cronsim reckons with bare wall-clock readings; the zone's table turns them into moments. So every
clock change follows one rule (``core.zones``), whatever the expression.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cronsim import CronSim

from heteroscale_coordinator.core.spec.schedule import WindowSpec
from heteroscale_coordinator.core.zones import Zone, furthest_wall, instant, wall

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Span:
    """One time of a window, from a moment up to another, in seconds since 1970."""

    starts: float
    ends: float


def span_at(window: WindowSpec, zone: Zone, at: float) -> Span | None:
    """Return the window's span that holds ``at``; None when it is not in force then."""
    hour = at - at % _HOUR
    span = _last_span(window.start, window.end, window.duration, zone, hour)
    # What began since the full hour: so cron times are reckoned once an hour, not at each look.
    while (following := next_span(window, zone, max(hour, span.starts if span else hour))) and (
        following.starts <= at
    ):
        span = following
    return span if span is not None and at < span.ends else None


def next_span(window: WindowSpec, zone: Zone, at: float) -> Span | None:
    """Return the first span of the window that begins after ``at``; an empty one is none."""
    since = at - at % _HOUR
    span = _next_span(window.start, window.end, window.duration, zone, since)
    while span is not None and span.starts <= at:
        span = _next_span(window.start, window.end, window.duration, zone, span.starts)
    return span


@lru_cache(maxsize=16_384)
def _last_span(
    start: str, end: str | None, duration: float | None, zone: Zone, at: float
) -> Span | None:
    """Return the span whose start is the last up to ``at``."""
    newest = furthest_wall(zone, at) + timedelta(seconds=1)
    for reading in _readings(start, newest, back=True):
        begun = instant(zone, reading)
        if begun <= at:
            return Span(begun, _end(end, duration, zone, reading, begun))
    return None


@lru_cache(maxsize=16_384)
def _next_span(
    start: str, end: str | None, duration: float | None, zone: Zone, at: float
) -> Span | None:
    for reading in _readings(start, furthest_wall(zone, at)):
        begun = instant(zone, reading)
        span = Span(begun, _end(end, duration, zone, reading, begun))
        if begun > at and span.ends > begun:
            return span
    return None


def _end(
    end: str | None, duration: float | None, zone: Zone, reading: datetime, begun: float
) -> float:
    if duration is not None:
        return begun + duration
    following = next(_readings(end or "", reading), None)
    return math.inf if following is None else instant(zone, following)


def _readings(cron: str, begin: datetime, *, back: bool = False) -> Iterator[datetime]:
    """Yield the readings that an expression names, after ``begin``, or before it."""
    yield from CronSim(cron, begin, reverse=back)


def written(zone: Zone, at: float, now: float) -> str:
    """Return a moment in words, on the zone's clocks: the day is named unless it is today's."""
    reading = wall(zone, at)
    days = (reading.date() - wall(zone, now).date()).days
    # Within the week its day names it; later only the date does.
    day = "" if days == 0 else f"{reading:%a} " if 0 < days < 7 else f"{reading:%Y-%m-%d} "  # noqa: PLR2004
    return f"{day}{reading:%H:%M} {zone.name}"
