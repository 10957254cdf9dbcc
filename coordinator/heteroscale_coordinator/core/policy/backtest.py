"""Forecasts of a series, each held against what came: the best is used, the worst case covered.

All are judged on the service's own past, at the horizon they are used for. The last value is the
one to beat: a model that does not is not used (Makridakis: simple methods are hard to beat, and
shown to be so only out of sample).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.memory.forecast import History, Outlook, Slots

ENOUGH = 20
"""Forecasts held against what came, below which nothing is said of their error."""
MARGIN = 0.97
"""A model must have less than this share of the last value's error: not by chance."""
LEVEL = 0.2
"""Weight of the newest slot in the level."""
LINE = 20
"""Slots that a trend is drawn through."""
LEAST_UNIT = 0.1
"""Errors are shares of what was foreseen, at least of this share of the mean demand."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far ahead is looked, and which share of the past the band covers."""

    slots: int
    quantile: float


def outlook(history: History, horizon: Horizon) -> Outlook | None:
    """Return what the best model foresees; None while too little is known, or now is a hole."""
    means, ahead = history.means, horizon.slots
    if not means or means[-1] is None:
        return None
    made = {name: model(means, ahead) for name, model in MODELS.items()}
    mean = _mean([value for value in means if value is not None])
    errors = {name: _error(foreseen, means, ahead, mean) for name, foreseen in made.items()}
    known = {name: error for name, error in errors.items() if error is not None}
    if "last" not in known:
        return None
    best = min(known, key=lambda name: known[name])
    if known[best] >= MARGIN * known["last"]:
        best = "last"
    if made[best][-1] is None:
        best = "last"
    value, least = made[best][-1] or 0.0, LEAST_UNIT * mean
    now = max(means[-1], made["level"][-1] or 0.0)
    short = _shortfall(made[best], history.peaks, horizon, least)
    return Outlook(ahead, best, value, now, least, short, known[best], known["last"])


def judged(means: Slots, ahead: int) -> int:
    """Return how many forecasts ``ahead`` slots far can be held against what came."""
    return sum(a is not None and b is not None for a, b in zip(means, means[ahead:], strict=False))


def _error(foreseen: Slots, means: Slots, ahead: int, mean: float) -> float | None:
    """Return the mean absolute error as a share of the mean; None when too few can be held."""
    pairs = zip(foreseen, means[ahead:], strict=False)
    found = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    if len(found) < ENOUGH:
        return None
    return _mean(found) / mean if mean else 0.0


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


def _last(means: Slots, _: int) -> Slots:
    return means


def _level(means: Slots, _: int) -> Slots:
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
    for i, value in enumerate(means):
        newest = means[max(0, i + 1 - LINE) : i + 1]
        known = [(j, y) for j, y in enumerate(newest, 1 - len(newest)) if y is not None]
        if value is None or len(known) < LINE / 2:
            foreseen.append(None)
            continue
        x_mean, y_mean = (_mean([point[k] for point in known]) for k in (0, 1))
        spread = math.fsum((x - x_mean) ** 2 for x, _ in known)
        slope = math.fsum((x - x_mean) * (y - y_mean) for x, y in known) / spread
        foreseen.append(max(0.0, y_mean + slope * (ahead - x_mean)))
    return tuple(foreseen)


MODELS = {"last": _last, "level": _level, "trend": _trend}
"""By name, the one to beat first."""
