"""Draws whole sums instead of single requests, so that a billion requests cost no more than a few.

``spread`` says when a known number of requests arrive; ``length_sums`` how many tokens they have
together. Both are exact in what they promise: a total is kept to the request, a sum lies between
what its shortest and its longest requests could add up to.
"""

from __future__ import annotations

import numpy as np

from heteroscale_simulator.traffic.load import Floats

SMALLEST = 1e-6
"""Least sum of a beta distribution's two shapes: with it, it is a coin in all but name."""


def neighbourhood(values: Floats, reach: int) -> Floats:
    """Return for each second what a uniform jitter of ± ``reach`` seconds makes of sums by second.

    A unit in one second becomes a box that many seconds wide on both sides, whose two outermost
    seconds get half (a second is as wide as it is). At the ends the box is reflected, so that
    nothing is lost and nothing thins out. Shape (seconds, …) is kept.
    """
    ends = [(reach, reach)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, ends, mode="symmetric")
    total = np.concatenate((np.zeros((1, *values.shape[1:])), np.cumsum(padded, axis=0)))
    seconds = len(values)
    wide = total[2 * reach + 1 :][:seconds] - total[:seconds]
    narrow = total[2 * reach :][:seconds] - total[1:][:seconds]
    result: Floats = (wide + narrow) / (4 * reach)
    return result


def spread(total: int, weights: Floats, rng: np.random.Generator) -> Floats:
    """Return how many of ``total`` requests arrive in each second, in proportion to ``weights``.

    A multinomial draw, made by halving: a stretch's requests are split between its halves by a
    binomial, down to the seconds. The sum is ``total`` exactly, and a second of no weight gets none.
    """
    levels = [weights]
    while len(levels[-1]) > 1:
        last = levels[-1]
        if len(last) % 2:
            last = np.append(last, 0.0)
        levels.append(last[0::2] + last[1::2])
    counts = np.array([total if levels[-1][0] > 0 else 0], dtype=np.int64)
    for level in reversed(levels[:-1]):
        left = level[0::2]
        right = np.append(level[1::2], 0.0) if len(level) % 2 else level[1::2]
        both = left + right
        share = np.divide(left, both, out=np.zeros_like(left), where=both > 0)
        first = rng.binomial(counts, np.minimum(1.0, share))
        pair = np.empty(2 * len(left), dtype=np.int64)
        pair[0::2], pair[1::2] = first, counts - first
        counts = pair[: len(level)]
    return counts.astype(np.float64)


def length_sums(
    counts: Floats,
    mean: Floats,
    variance: Floats,
    bounds: tuple[Floats | float, Floats | float],
    rng: np.random.Generator,
) -> Floats:
    """Return the summed lengths of ``counts`` requests in each cell, whole tokens.

    The sum has the mean and the variance of that many independent draws from lengths with this
    mean and variance between the two ``bounds``; its shape is a beta distribution's, which stays
    between the bounds. Arrays broadcast to the shape of ``counts``; where it is 0 the sum is 0.
    """
    low, high, mean, variance = (
        np.broadcast_to(np.asarray(part, dtype=np.float64), counts.shape)
        for part in (*bounds, mean, variance)
    )
    here = counts > 0
    n, low, high = counts[here], low[here], high[here]
    width = high - low
    open_ = width > 0
    safe = np.where(open_, width, 1.0)
    middle = np.where(open_, np.clip((mean[here] - low) / safe, 0.0, 1.0), 0.5)
    relative = np.clip(variance[here], 0.0, None) / safe**2 / n
    drawn = middle.copy()
    vary = open_ & (relative > 0) & (middle > 0) & (middle < 1)
    m, v = middle[vary], relative[vary]
    size = np.maximum(m * (1 - m) / v - 1, SMALLEST)
    drawn[vary] = rng.beta(m * size, (1 - m) * size)
    sums = np.zeros(counts.shape)
    sums[here] = np.rint(n * (low + width * drawn))
    return sums
