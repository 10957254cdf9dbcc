"""Charts over time as inline SVG: lines, stacked areas and marks. No library, no script.

Colours are classes, so that the page's style sheet may change them for a dark screen or for print.
Hovering shows the values of a moment by SVG's own ``<title>``.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from heteroscale_simulator.report.words import clock, number
from heteroscale_simulator.traffic.load import Floats

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 58, 14, 8, 24
MAX_POINTS = 720
"""More than a screen shows; a longer run is drawn by coarser means."""
MAX_HOVERS = 160
MOST_TICKS = 12
"""On a time axis; more would not be read."""
MINUTE = 60
TICKS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400),
)
Say = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: NaN leaves a gap. ``style`` is a class of the page's style sheet."""

    name: str
    style: str
    values: Floats


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment: drawn at lane ``lane`` of a time line."""

    at: float
    lane: int
    style: str
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The time axis that all charts of a page share."""

    width: int
    """Seconds of one value."""
    seconds: float
    """Length of the run."""

    def x(self, at: float) -> float:
        """Return the horizontal place of a moment."""
        return LEFT + at / self.seconds * (WIDTH - LEFT - RIGHT)

    def centres(self, count: int) -> Floats:
        """Return the moments in the middle of the first ``count`` bins."""
        begin = np.arange(count) * float(self.width)
        end = np.minimum(begin + self.width, self.seconds)
        centres: Floats = (begin + end) / 2
        return centres


def chart(  # a chart is what its parts are
    axis: Axis,
    lines: Sequence[Line],
    *,
    stacked: Sequence[Line] = (),
    limits: Sequence[Line] = (),
    say: Say = number,
    top: float | None = None,
    height: int = 170,
    label: str = "",
) -> str:
    """Return a chart as SVG.

    ``stacked`` areas lie upon each other, ``lines`` before them; ``limits`` are lines too, but a
    limit far above everything does not flatten the rest: it is left outside the picture.
    """
    lines, stacked, limits = (
        [_coarse(one, axis) for one in group] for group in (lines, stacked, limits)
    )
    axis = _coarse_axis(axis)
    high = top if top is not None else _top(lines, stacked, limits)
    y = _vertical(high, height)
    parts = [_areas(axis, stacked, y)]
    shown = [one for one in limits if not _above(one, high)]
    parts += [_polyline(axis, one, y) for one in (*shown, *lines)]
    parts.append(_hovers(axis, (*stacked, *lines, *limits), height, say))
    return _frame(axis, height, _rules(high, y, say), "".join(parts), label)


def timeline(axis: Axis, lanes: Sequence[str], marks: Sequence[Mark], label: str = "") -> str:
    """Return marks on lanes over time, each with its words to hover on."""
    height = TOP + BOTTOM + 18 * max(1, len(lanes))
    rules = []
    for index, name in enumerate(lanes):
        at = TOP + 18 * index + 9
        rules.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
            f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{html.escape(name)}</text>'
        )
    dots = [
        f'<circle class="{one.style}" cx="{axis.x(one.at):.1f}" cy="{TOP + 18 * one.lane + 9}" r="4.5">'
        f"<title>{html.escape(one.text)}</title></circle>"
        for one in marks
    ]
    return _frame(axis, height, "".join(rules), "".join(dots), label)


def is_outside(limit: Line, lines: Sequence[Line]) -> bool:
    """Return whether a chart of ``lines`` leaves ``limit`` outside its picture, far above."""
    return _above(limit, _top(lines, [], [limit]))


def nice(value: float) -> float:
    """Return the round number at or above ``value``: 1, 2, 2.5, 4, 5 or 8 times a power of ten."""
    if not (math.isfinite(value) and value > 0):
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10):
        if value <= step * unit * (1 + 1e-9):
            return step * unit
    return 10 * unit


def _top(lines: Sequence[Line], stacked: Sequence[Line], limits: Sequence[Line]) -> float:
    most = [_max(one.values) for one in lines]
    if stacked:
        most.append(_max(np.sum([np.nan_to_num(one.values) for one in stacked], axis=0)))
    high = max(most, default=0.0)
    for one in limits:
        limit = _max(one.values)
        if high <= 0 or limit <= 3 * high:
            high = max(high, limit * 1.05)
    return nice(high)


def _max(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _factor(axis: Axis) -> int:
    return max(1, math.ceil(axis.seconds / axis.width / MAX_POINTS))


def _coarse_axis(axis: Axis) -> Axis:
    return Axis(axis.width * _factor(axis), axis.seconds)


def _coarse(line: Line, axis: Axis) -> Line:
    """Return the line by the mean of every ``factor`` values; a bin of unknowns stays unknown."""
    factor = _factor(axis)
    if factor == 1:
        return line
    known = np.isfinite(line.values)
    starts = np.arange(0, len(line.values), factor)
    total = np.add.reduceat(np.where(known, line.values, 0.0), starts)
    count = np.add.reduceat(known.astype(np.float64), starts)
    empty = np.full(len(starts), np.nan)
    return Line(line.name, line.style, np.divide(total, count, out=empty, where=count > 0))


def _vertical(high: float, height: int) -> Callable[[float], float]:
    return lambda value: TOP + (1 - value / high) * (height - TOP - BOTTOM)


def _above(limit: Line, high: float) -> bool:
    return _max(limit.values) > high * (1 + 1e-9)


def _polyline(axis: Axis, line: Line, y: Callable[[float], float]) -> str:
    """Draw a line with gaps where it is unknown."""
    runs: list[list[str]] = [[]]
    for at, value in zip(axis.centres(len(line.values)), line.values.tolist(), strict=True):
        if math.isfinite(value):
            runs[-1].append(f"{axis.x(float(at)):.1f},{y(value):.1f}")
        elif runs[-1]:
            runs.append([])
    drawn = []
    for run in runs:
        if len(run) == 1:  # a moment between two gaps would not be seen as a line
            x, _, at_y = run[0].partition(",")
            drawn.append(f'<circle class="dot {line.style}" cx="{x}" cy="{at_y}" r="1.2"/>')
        elif run:
            drawn.append(f'<polyline class="line {line.style}" points="{" ".join(run)}"/>')
    return "".join(drawn)


def _areas(axis: Axis, stacked: Sequence[Line], y: Callable[[float], float]) -> str:
    if not stacked:
        return ""
    base = np.zeros(len(stacked[0].values))
    begins = np.arange(len(base)) * float(axis.width)
    corners = [*begins.tolist(), axis.seconds]
    drawn = []
    for one in stacked:
        upper = base + np.nan_to_num(one.values)
        there = [
            f"{axis.x(at):.1f},{y(value):.1f}"
            for (begin, end), value in zip(pairwise(corners), upper.tolist(), strict=True)
            for at in (begin, end)
        ]
        back = [
            f"{axis.x(at):.1f},{y(value):.1f}"
            for (begin, end), value in reversed(
                list(zip(pairwise(corners), base.tolist(), strict=True))
            )
            for at in (end, begin)
        ]
        drawn.append(f'<polygon class="area {one.style}" points="{" ".join(there + back)}"/>')
        base = upper
    return "".join(drawn)


def _hovers(axis: Axis, lines: Sequence[Line], height: int, say: Say) -> str:
    """Return unseen strips that tell the values of their moment when hovered on."""
    count = max((len(one.values) for one in lines), default=0)
    step = max(1, math.ceil(count / MAX_HOVERS))
    strips = []
    for first in range(0, count, step):
        middle = min(first + step // 2, count - 1)
        told = [clock(middle * axis.width)]
        told += [f"{one.name}: {say(float(one.values[middle]))}" for one in lines]
        left = axis.x(first * axis.width)
        right = axis.x(min((first + step) * axis.width, axis.seconds))
        strips.append(
            f'<rect class="hover" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
            f'height="{height - TOP - BOTTOM}"><title>{html.escape(chr(10).join(told))}</title></rect>'
        )
    return "".join(strips)


def _rules(high: float, y: Callable[[float], float], say: Say) -> str:
    parts = []
    for quarter in range(5):
        value = high * quarter / 4
        at = f"{y(value):.1f}"
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
            f'<text x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">{html.escape(say(value))}</text>'
        )
    return "".join(parts)


def _frame(axis: Axis, height: int, rules: str, inside: str, label: str) -> str:
    step = next((tick for tick in TICKS if axis.seconds / tick <= MOST_TICKS), TICKS[-1])
    ticks = []
    for index in range(int(axis.seconds // step) + 1):
        at = index * step
        x = axis.x(at)
        anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
        ticks.append(
            f'<text x="{x:.1f}" y="{height - 7}" text-anchor="{anchor}">{_moment(at, step)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(label)}">'
        f"{rules}{inside}{''.join(ticks)}</svg>"
    )


def _moment(at: int, step: int) -> str:
    if step < MINUTE:
        return clock(at)
    if step % 86400 == 0:
        return f"day {at // 86400}"
    return f"{at // 3600}:{at // 60 % 60:02d}"
