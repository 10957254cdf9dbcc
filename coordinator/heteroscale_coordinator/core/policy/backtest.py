"""Forecasts of a series, each held against what came: the best is used, the worst case covered.

All are judged on the service's own past, at the horizon they are used for. The last value is the
one to beat: a model that does not is not used (Makridakis: simple methods are hard to beat, and
shown to be so only out of sample).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heteroscale_coordinator.core.memory.forecast import History, Outlook, Slots
from heteroscale_coordinator.core.policy.season import SEASONS, seasonal

ENOUGH = 20
"""Forecasts held against what came, below which nothing is said of their error."""
MARGIN = 0.97
"""A model must have less than this share of the last value's error: not by chance."""
LEVEL = 0.2
"""Weight of the newest slot in the level."""
LINE = 20
"""Slots that a trend is drawn through."""
MODELS = ("last", "level", "trend")
"""That need no season; the one to beat first."""
HALF_LIFE = 1440
"""Slots until an error counts half: a day, so that a ramp of every morning is remembered at night."""
WARM = 30
"""Oldest slots of those kept in which a model does not yet know what it would have known then."""
LEAST_UNIT = 0.1
"""Errors are shares of what was foreseen, at least of this share of the mean demand."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far ahead is looked, and which share of the past the band covers."""

    name: str
    slots: int
    quantile: float


def outlook(
    history: History, newest: int, horizon: Horizon, names: Sequence[str]
) -> Outlook | None:
    """Return what the best of the models named foresees; None while too little is known.

    None also when the newest slot, whose number is ``newest``, is a hole.
    """
    means, ahead = history.means, horizon.slots
    if not means or means[-1] is None:
        return None
    mean = _mean([value for value in means if value is not None])
    best, foreseen, skill = "last", means, MARGIN
    found = _judgement("last", means, history, horizon)
    if found is None:
        return None
    for name in names:
        made = _made(name, history, newest, ahead)
        told = _judgement(name, made, history, horizon)
        if told is None or made[-1] is None or not told.last:
            continue
        if told.error / told.last < skill:
            best, foreseen, skill, found = name, made, told.error / told.last, told
    value, least = foreseen[-1] or 0.0, LEAST_UNIT * mean
    now = max(means[-1], _level(means)[-1] or 0.0)
    short = _shortfall(foreseen, history.peaks, horizon, least)
    came = found.came or 1.0
    return Outlook(ahead, best, value, now, least, short, found.error / came, found.last / came)


def retired(
    history: History, newest: int, count: int, horizons: Sequence[Horizon], names: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Return the errors to be remembered now that the ``count`` oldest slots are kept no longer."""
    fade = 0.5 ** (count / HALF_LIFE)
    found = {}
    for horizon in horizons:
        for name in names:
            made = _made(name, history, newest, horizon.slots)
            rows = _rows(made[: WARM + count], history.means, horizon.slots, WARM)
            key = f"{horizon.name}.{name}"
            before = history.held.get(key, (0.0, 0.0, 0.0))
            sums = (math.fsum(column) for column in zip(*rows, strict=True)) if rows else (0.0,) * 3
            error, last, came = (
                float(f"{fade * old + new:.4g}") for old, new in zip(before, sums, strict=True)
            )
            found[key] = (error, last, came)
    return found


def judged(means: Slots, ahead: int) -> int:
    """Return how many forecasts ``ahead`` slots far can be held against what came."""
    return sum(a is not None and b is not None for a, b in zip(means, means[ahead:], strict=False))


class _Judgement(NamedTuple):
    """Sums of a model's errors, of the last value's beside it, and of the demand that came."""

    error: float
    last: float
    came: float


def _judgement(name: str, foreseen: Slots, history: History, horizon: Horizon) -> _Judgement | None:
    """Return how a model did so far; None when too few of its forecasts can be held."""
    rows = _rows(foreseen, history.means, horizon.slots, WARM if history.held else 0)
    if len(rows) < ENOUGH:
        return None
    older = history.held.get(f"{horizon.name}.{name}", (0.0, 0.0, 0.0))
    return _Judgement(
        *(
            math.fsum((*column, old))
            for column, old in zip(zip(*rows, strict=True), older, strict=True)
        )
    )


def _rows(
    foreseen: Slots, means: Slots, ahead: int, begin: int
) -> list[tuple[float, float, float]]:
    """Return (model's error, last value's error, what came) from ``begin`` on, where all are known."""
    rows = zip(foreseen[begin:], means[begin:], means[begin + ahead :], strict=False)
    return [
        (abs(made - came), abs(last - came), came)
        for made, last, came in rows
        if made is not None and last is not None and came is not None
    ]


def _shortfall(foreseen: Slots, peaks: Slots, horizon: Horizon, least: float) -> float:
    """Return the quantile of (highest demand within the horizon − foreseen), in units."""
    found = []
    for i, value in enumerate(foreseen[: len(foreseen) - horizon.slots]):
        came = [peak for peak in peaks[i + 1 : i + 1 + horizon.slots] if peak is not None]
        if value is not None and came:
            scale = max(value, least)
            found.append((max(came) - value) / scale if scale else 0.0)
    if not found:
        return 0.0
    place = math.ceil(horizon.quantile * len(found)) - 1
    return max(0.0, sorted(found)[place])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# ---- models: what each slot, when it was over, foresaw of the one ``ahead`` later ----------------


def _made(name: str, history: History, newest: int, ahead: int) -> Slots:
    match name:
        case "level":
            return _level(history.means)
        case "trend":
            return _trend(history.means, ahead)
        case "day" | "week":
            return seasonal(history, SEASONS[name], newest, ahead, LEVEL)
    return history.means


def _level(means: Slots) -> Slots:
    """Exponential smoothing: what is left when chance is averaged out."""
    level: float | None = None
    foreseen: list[float | None] = []
    for value in means:
        if value is not None:
            level = value if level is None else level + LEVEL * (value - level)
        foreseen.append(None if value is None else level)
    return tuple(foreseen)


def _trend(means: Slots, ahead: int) -> Slots:
    """The straight line through the newest slots, carried on; never below nothing."""
    foreseen: list[float | None] = []
    count = sum_x = sum_y = sum_xx = sum_xy = 0.0
    for i, value in enumerate(means):
        # Sums that move along: what enters the window is added, what leaves it is taken off.
        for x, y, sign in (
            (i, value, 1.0),
            (i - LINE, means[i - LINE] if i >= LINE else None, -1.0),
        ):
            if y is not None:
                count += sign
                sum_x += sign * x
                sum_y += sign * y
                sum_xx += sign * x * x
                sum_xy += sign * x * y
        if value is None or count < LINE / 2:
            foreseen.append(None)
            continue
        x_mean, y_mean = sum_x / count, sum_y / count
        slope = (sum_xy - x_mean * sum_y) / (sum_xx - x_mean * sum_x)
        foreseen.append(max(0.0, y_mean + slope * (i + ahead - x_mean)))
    return tuple(foreseen)
