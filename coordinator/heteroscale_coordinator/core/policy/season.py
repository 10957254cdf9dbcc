"""What a day and a week look like: demand by the quarter of an hour, and by the hour.

A slot enters the season only when it leaves the kept past. So what the season foresees of that past
was learned before it, and its backtest is an honest one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from heteroscale_coordinator.core.memory.forecast import History, Slots

LEARNED = 15
"""Slots that enter the season together."""
LEAST_KNOWN = 0.5
"""Share of them that must be known."""
DIGITS = 3
"""Of a figure that is kept."""


@dataclass(frozen=True, slots=True)
class Season:
    """A course that comes again: ``count`` parts of ``width`` slots each."""

    name: str
    width: int
    count: int
    weight: float
    """Of the newest round beside those before it, for each part learned."""


SEASONS: Mapping[str, Season] = {
    "day": Season("day", LEARNED, 96, 0.5),
    # Four quarters enter an hour one after the other.
    "week": Season("week", 4 * LEARNED, 168, 0.25),
}
"""Days and weeks of universal time: a change of the clocks is learned anew."""


def leaving(history: History, newest: int, keep: int) -> int:
    """Return how many of the oldest slots are to enter the seasons together; 0 while none are."""
    first = newest - len(history.means) + 1
    count = LEARNED - first % LEARNED
    return count if len(history.means) - count >= keep else 0


def learned(history: History, newest: int, count: int) -> History:
    """Return the history with its ``count`` oldest slots moved into the seasons."""
    parts, first = dict(history.seasons), newest - len(history.means) + 1
    known = [value for value in history.means[:count] if value is not None]
    if len(known) >= LEAST_KNOWN * LEARNED:
        mean = math.fsum(known) / len(known)
        for season in SEASONS.values():
            parts[season.name] = _entered(parts.get(season.name, ()), season, first, mean)
    means, peaks = history.means[count:], history.peaks[count:]
    return replace(history, means=means, peaks=peaks, seasons=parts)


def _entered(parts: Slots, season: Season, slot: int, mean: float) -> Slots:
    kept = list(parts) or [None] * season.count
    place = slot // season.width % season.count
    old = kept[place]
    value = mean if old is None else old + season.weight * (mean - old)
    kept[place] = float(f"{value:.{DIGITS}g}")
    return tuple(kept)


def usual(parts: Slots, season: Season, slot: int) -> float | None:
    """Return the demand that is usual in a slot, on a line between parts; None where unknown."""
    if not parts:
        return None
    place = (slot + 0.5) / season.width - 0.5
    before = math.floor(place)
    one, other = parts[before % season.count], parts[(before + 1) % season.count]
    if one is None or other is None:
        return None
    return one + (place - before) * (other - one)


def seasonal(history: History, season: Season, newest: int, ahead: int, weight: float) -> Slots:
    """Return what each slot foresaw: the usual demand, at the level of how the present compares.

    ``weight`` is that of the newest slot in that level.
    """
    parts, first = history.seasons.get(season.name, ()), newest - len(history.means) + 1
    level: float | None = None
    foreseen: list[float | None] = []
    for slot, value in enumerate(history.means, first):
        now, then = usual(parts, season, slot), usual(parts, season, slot + ahead)
        if value is None or not now or then is None:
            foreseen.append(None)
            continue
        level = value / now if level is None else level + weight * (value / now - level)
        foreseen.append(level * then)
    return tuple(foreseen)
