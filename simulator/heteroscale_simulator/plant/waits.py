"""Waits before prefill: the fluid's, a straight line, and on top what is random inside a second.

``queueing`` says what a G/G/n queue does when it has for ever; here it has a window of seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from heteroscale_simulator.traffic.load import Floats

WINDOW = 10.0
"""Seconds over which the load of the queue is measured."""
_FULL = 0.995
_NOTHING = 1e-6
"""Seconds that are no wait."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits with probability ``chance``, then exponentially with mean ``mean`` seconds."""

    chance: float = 0.0
    mean: float = 0.0

    @property
    def expected(self) -> float:
        """Mean wait of all, in seconds."""
        return self.chance * self.mean

    def of(self, expected: float) -> Waits:
        """Return waits of as many, that are ``expected`` seconds in the mean of all."""
        return Waits(self.chance, expected / self.chance if self.chance else 0.0)


def waits(load: float, servers: int, service: float, spread: float) -> Waits:
    """Return the random waits at ``servers`` engines, arrivals inside a second being Poisson.

    The formula is ``queueing.waiting``'s (a test holds them together), for single numbers: it is
    asked every second. ``load`` is ρ, ``service`` s the mean seconds of service, ``spread`` its cs².
    Near ρ = 1 the steady queue is one that had for ever to grow; in a window of T it has grown no
    further than a random walk takes it: ``√(2/π) · √((1 + cs²) · s · T / n)``.
    """
    if load <= 0 or servers <= 0 or service <= 0:
        return Waits()
    rho = min(load, _FULL)
    chance = rho ** (sqrt(2 * (servers + 1)) - 1)
    steady = (1 + spread) / 2 * service / (servers * (1 - rho))
    grown = sqrt(2 / pi) * sqrt((1 + spread) * service * WINDOW / servers)
    return Waits(chance, min(steady, grown / chance))


def share_within(first: float, last: float, random: Waits, slack: Floats) -> Floats:
    """Return the probability that a wait is within ``slack`` seconds (any shape, any sign).

    The fluid's wait is uniform between ``first`` and ``last`` (either may be the larger), ``random``
    is on top: the mean over w of 1 − chance · exp(−(slack − w) ÷ mean) where w ≤ slack, else 0.
    """
    low, high = min(first, last), max(first, last)
    width = high - low
    mean = max(random.mean, _NOTHING)
    if width < _NOTHING:
        over = np.maximum(slack - low, 0.0)
        point: Floats = (slack >= low) * (1 - random.chance * np.exp(-over / mean))
        return point
    top = np.minimum(np.maximum(slack, low), high)
    within: Floats = (top - low) / width
    if random.expected >= _NOTHING:
        soonest = np.exp(-np.maximum(slack - top, 0.0) / mean)
        latest = np.exp(-np.maximum(slack - low, 0.0) / mean)
        # Where slack < low both are 1, and nobody is within.
        within = within - random.chance * mean / width * (soonest - latest)
    return within
