"""A recording played at another rate: a row stands for K requests, spread over its neighbourhood.

Kept: the total (K × rows, to the fraction's coin), the rate from minute to minute, and from minute to
minute the mean and the spread of lengths in each class, hence their tail and the in:out ratio.
Smoothed: bursts shorter than a minute; below it arrivals are Poisson's. At the ends the neighbourhood
is reflected, so that the first and last half minute are as dense as they were.
Thinning (K < 1) smooths nothing: each row stays where it is, with probability K.
"""

from __future__ import annotations

import numpy as np

from heteroscale_simulator.traffic.classes import Sums
from heteroscale_simulator.traffic.draw import length_sums, neighbourhood, spread
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.rows import Rows

REACH = 30
"""Seconds on both sides of a row from which its requests' moments and lengths are drawn."""
MAX_REQUESTS = 1e15
"""More in one class would no longer be counted exactly."""


def thinned(rows: Rows, share: float, rng: np.random.Generator) -> Rows:
    """Return the rows that stay, each with probability ``share``."""
    return rows.take(rng.random(len(rows)) < share)


def multiplied(sums: Sums, factor: float, rng: np.random.Generator) -> list[Floats]:
    """Return requests, prompt and output tokens by second and class, ``factor`` times as many.

    Args:
        sums: of the recording, with squares
        factor: requests for each row, > 1
        rng: what is drawn from

    Raises:
        ValueError: more requests than can be counted.

    """
    result = [np.zeros((sums.seconds, sums.edges.classes)) for _ in range(3)]
    for kind in range(sums.edges.classes):
        rows = sums.column(0)[:, kind]
        recorded = int(rows.sum())
        if recorded == 0:
            continue
        if recorded * factor > MAX_REQUESTS:
            raise ValueError(
                f"rate scale {factor:g}: {recorded * factor:.1e} requests of one class; "
                f"at most {MAX_REQUESTS:.0e} are counted"
            )
        whole = int(factor)
        total = whole * recorded + int(rng.binomial(recorded, factor - whole))
        weight = neighbourhood(rows, REACH)
        result[0][:, kind] = spread(total, weight, rng)
        for which in (0, 1):
            result[1 + which][:, kind] = _tokens(sums, kind, which, result[0][:, kind], weight, rng)
    return result


def _tokens(  # noqa: PLR0917 - one class, one of its two lengths
    sums: Sums, kind: int, which: int, counts: Floats, weight: Floats, rng: np.random.Generator
) -> Floats:
    near = np.where(weight > 0, weight, 1.0)
    mean = neighbourhood(sums.column(1 + which)[:, kind], REACH) / near
    squares = neighbourhood(sums.column(3 + which)[:, kind], REACH) / near
    variance = squares - (mean - sums.centres[which, kind]) ** 2
    bounds = float(sums.lowest[which, kind]), float(sums.highest[which, kind])
    return length_sums(counts, mean, variance, bounds, rng)
