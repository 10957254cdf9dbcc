"""Interpolation in small tables of measured times: linear in one direction, bilinear in two.

Between two measured points a straight line; beyond the last point the last line goes on; before the
first point the first value holds (a batch of one is never cheaper than what was measured for one).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def bracket(axis: Sequence[float], at: float) -> tuple[int, float]:
    """Return (index, fraction) so that ``at = axis[i] + fraction × (axis[i+1] − axis[i])``.

    The fraction is 0 before the first point, and may exceed 1 after the last one.
    """
    if len(axis) == 1 or at <= axis[0]:
        return 0, 0.0
    low = min(bisect_right(axis, at) - 1, len(axis) - 2)
    return low, (at - axis[low]) / (axis[low + 1] - axis[low])


def linear(axis: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return the value at ``at`` of the line through the points (axis, values)."""
    low, fraction = bracket(axis, at)
    if not fraction:
        return values[low]
    return values[low] + fraction * (values[low + 1] - values[low])


def bilinear(
    rows: Sequence[float],
    columns: Sequence[float],
    table: Sequence[Sequence[float]],
    row: float,
    column: float,
) -> float:
    """Return the value of ``table[row][column]`` between its measured rows and columns."""
    low, fraction = bracket(rows, row)
    at_low = linear(columns, table[low], column)
    if not fraction:
        return at_low
    return at_low + fraction * (linear(columns, table[low + 1], column) - at_low)
