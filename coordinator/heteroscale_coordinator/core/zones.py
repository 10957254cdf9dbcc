"""Time zones as data: when a zone's clocks read what. The core reads no time-zone database.

The edge resolves the zones that specifications name into tables for a few years around now. One rule
for every clock change: a reading means the first moment at which the clock shows it or is past it. So
a reading in the skipped hour means the jump, and one in the repeated hour means its first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a reading of a wall clock has no zone of its own


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone's offsets from UTC, each from a moment on, in order; the first also holds before."""

    name: str
    offsets: tuple[tuple[float, float], ...]
    """(seconds since 1970, seconds east of UTC)."""
    until: float
    """The table is right up to here; beyond it the last offset is taken to go on."""


def wall(zone: Zone, at: float) -> datetime:
    """Return what the zone's clocks read at ``at``."""
    offset = zone.offsets[0][1]
    for since, new in zone.offsets:
        if since > at:
            break
        offset = new
    return _EPOCH + timedelta(seconds=at + offset)


def furthest_wall(zone: Zone, at: float) -> datetime:
    """Return the furthest that the zone's clocks have read up to ``at``.

    In the hour that is repeated that is more than they read now.
    """
    furthest = wall(zone, at)
    for (_, before), (since, after) in pairwise(zone.offsets):
        if after < before and since <= at:
            furthest = max(furthest, _EPOCH + timedelta(seconds=since + before))
    return furthest


def instant(zone: Zone, reading: datetime) -> float:
    """Return the first moment at which the zone's clocks show ``reading``, or are past it."""
    seconds = (reading - _EPOCH).total_seconds()
    for (since, offset), (end, _) in pairwise(zone.offsets):
        if seconds - offset < end:
            first = since == zone.offsets[0][0]
            return seconds - offset if first else max(seconds - offset, since)
    since, offset = zone.offsets[-1]
    return seconds - offset if len(zone.offsets) == 1 else max(seconds - offset, since)
