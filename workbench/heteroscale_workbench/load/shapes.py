"""Made-up traffic: a rate that follows a curve, Poisson arrivals, lognormal lengths; all seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale_simulator.profiles.grid import linear
from heteroscale_simulator.traffic.traces import Arrival

HUMP_POINTS = 32
DAY = (
    *(0.42, 0.30, 0.20, 0.14, 0.11, 0.10, 0.12, 0.20, 0.38, 0.62, 0.84, 0.92, 0.72, 0.70),
    *(0.86, 0.97, 1.00, 0.90, 0.76, 0.66, 0.70, 0.72, 0.60, 0.50, 0.42),
)
"""Our own working day, hour by hour, as a share of its peak: two humps and a quiet night."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Requests per second over time: straight lines between points, level outside them."""

    times: tuple[float, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.rates) or not self.times:
            raise ValueError("a curve needs as many rates as times, at least one")
        if any(rate < 0 or not math.isfinite(rate) for rate in self.rates):
            raise ValueError("rates are finite and not negative")

    @classmethod
    def constant(cls, rate: float) -> Curve:
        """Return the same rate at all times."""
        return cls((0.0,), (rate,))

    @classmethod
    def ramp(cls, first: float, last: float, duration: float) -> Curve:
        """Return a straight line from ``first`` to ``last``."""
        return cls((0.0, duration), (first, last))

    @classmethod
    def humps(cls, base: float, humps: Sequence[tuple[float, float, float]]) -> Curve:
        """Return ``base`` with humps (time of the top, rate at the top, width from foot to foot).

        A hump rises and falls as a cosine; where humps overlap, the higher one counts.
        """
        times = {0.0}
        for top, _, width in humps:
            steps = range(HUMP_POINTS + 1)
            times |= {max(0.0, top + width * (i / HUMP_POINTS - 0.5)) for i in steps}
        ordered = tuple(sorted(times))

        def rate(at: float) -> float:
            high = [
                base + (peak - base) * (1 + math.cos(2 * math.pi * (at - top) / width)) / 2
                for top, peak, width in humps
                if abs(at - top) <= width / 2
            ]
            return max([base, *high])

        return cls(ordered, tuple(rate(at) for at in ordered))

    @classmethod
    def diurnal(cls, peak: float, duration: float) -> Curve:
        """Return one day, squeezed into ``duration`` seconds, with ``peak`` at its busiest hour."""
        hours = len(DAY) - 1
        times = tuple(duration * hour / hours for hour in range(hours + 1))
        return cls(times, tuple(peak * share for share in DAY))

    def rate(self, at: float) -> float:
        """Return the rate at ``at`` seconds."""
        at = min(max(at, self.times[0]), self.times[-1])
        return linear(self.times, self.rates, at)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long requests are, in tokens: means, and how widely they spread.

    ``spread`` is the sigma of a lognormal distribution of that mean; 0 makes all alike.
    """

    input_mean: float = 200
    output_mean: float = 64
    spread: float = 0.0
    max_input: int = 8192
    max_output: int = 2048

    def draw(self, rng: random.Random) -> tuple[int, int]:
        """Return (input tokens, output tokens) of one request."""
        return (
            self._one(rng, self.input_mean, self.max_input),
            self._one(rng, self.output_mean, self.max_output),
        )

    def _one(self, rng: random.Random, mean: float, most: int) -> int:
        factor = rng.lognormvariate(-(self.spread**2) / 2, self.spread) if self.spread else 1.0
        return min(most, max(1, round(mean * factor)))


def generate(curve: Curve, lengths: Lengths, duration: float, seed: int = 0) -> list[Arrival]:
    """Return Poisson arrivals whose rate follows ``curve``; the same seed gives the same ones.

    Method: arrivals at the highest rate, each kept with probability rate ÷ highest rate.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    highest = max(curve.rates)
    result: list[Arrival] = []
    if highest <= 0:
        return result
    at = rng.expovariate(highest)
    while at < duration:
        if rng.random() * highest < curve.rate(at):
            result.append(Arrival(at, *lengths.draw(rng)))
        at += rng.expovariate(highest)
    return result
