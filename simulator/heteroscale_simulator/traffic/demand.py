"""Made-up traffic as expectations by the second, and the seeded draw that makes a load of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from heteroscale_simulator.traffic.classes import CUTS
from heteroscale_simulator.traffic.draw import length_sums
from heteroscale_simulator.traffic.load import Floats, Load

SEED = 102
"""Added to the run's seed, so that no two rooms draw the same."""
POINTS = 20_000
"""Quantiles that stand for a lognormal distribution; its last 1/40,000 on both sides is cut."""


@dataclass(frozen=True)
class Demand:
    """What is expected. Arrays of shape (seconds,)."""

    rate: Floats
    """Requests/s."""
    input_mean: Floats
    """Mean prompt tokens of a request, ≥ 1."""
    output_mean: Floats
    """Mean output tokens of a request, ≥ 1."""
    spread: float
    """Sigma of the lognormal distribution of both lengths; 0 makes all alike."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a distribution of mean 1."""

    share: float
    mean: float
    variance: float
    low: float
    high: float


def drawn(demand: Demand, seed: int = 0, classes: int = 8) -> Load:
    """Return a load: Poisson arrivals, lognormal lengths, prompt and output independent.

    Raises:
        ValueError: fewer than one class.

    """
    if classes < 1:
        raise ValueError(f"classes is {classes}; at least 1 is needed")
    rng = np.random.default_rng(seed + SEED)
    cuts = CUTS[max(size for size in CUTS if size <= classes)]
    kinds = [
        (prompt, output)
        for prompt in parts(demand.spread, cuts[0])
        for output in parts(demand.spread, cuts[1])
    ]
    columns = [np.zeros((len(demand.rate), len(kinds))) for _ in range(3)]
    for index, (prompt, output) in enumerate(kinds):
        counts = rng.poisson(demand.rate * prompt.share * output.share).astype(np.float64)
        columns[0][:, index] = counts
        columns[1][:, index] = _tokens(counts, demand.input_mean, prompt, rng)
        columns[2][:, index] = _tokens(counts, demand.output_mean, output, rng)
    return Load(columns[0], columns[1], columns[2])


def _tokens(counts: Floats, mean: Floats, part: Part, rng: np.random.Generator) -> Floats:
    # The first token is certain; what varies is what comes after it.
    more = mean - 1
    return length_sums(
        counts,
        1 + more * part.mean,
        more**2 * part.variance,
        (1 + more * part.low, 1 + more * part.high),
        rng,
    )


@cache
def parts(spread: float, cuts: tuple[float, ...]) -> tuple[Part, ...]:
    """Return a lognormal distribution of mean 1, cut at quantiles."""
    if spread == 0:
        return (Part(1.0, 1.0, 0.0, 1.0, 1.0),)
    normal = NormalDist(0, spread)
    points = np.exp([normal.inv_cdf((index + 0.5) / POINTS) for index in range(POINTS)])
    points /= points.mean()
    ends = [round(cut * POINTS) for cut in (0.0, *cuts, 1.0)]
    return tuple(
        Part(
            (end - begin) / POINTS,
            float(points[begin:end].mean()),
            float(points[begin:end].var()),
            float(points[begin]),
            float(points[end - 1]),
        )
        for begin, end in pairwise(ends)
    )
