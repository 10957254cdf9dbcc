"""How long requests wait for one of several engines: the G/G/n queue, in one place for all who ask.

Sakasegawa's approximation (1977): a request waits with probability C = ρ^(√(2(n+1)) − 1), and on
average C × (c_a² + c_s²)/2 × s ÷ (n (1 − ρ)), with n servers, their load ρ, the mean service time s, and
the squared coefficients of variation of gaps and services. Those who wait do so for an exponential time
(exact in M/M/n), so that the share that waits longer than t is C × exp(−t ÷ (mean wait of a waiter)).
C errs to the long side: up to 0.05 above Erlang's at loads of 0.7 and more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from heteroscale_simulator.traffic.load import Floats


@dataclass(frozen=True)
class Waiting:
    """Who waits, and for how long. Arrays of one shape."""

    probability: Floats
    """Share of requests that wait at all; 1 where the load is 1 or more."""
    mean: Floats
    """Seconds that a request that waits does so, on average; infinite where the load is 1 or more."""

    def beyond(self, seconds: ArrayLike) -> Floats:
        """Return the share of requests that wait longer than ``seconds``; all, where it is below 0.

        The shapes are broadcast against those of the queue.
        """
        limit = np.asarray(seconds, dtype=np.float64)
        mean = np.maximum(self.mean, np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):
            share = self.probability * np.exp(-np.maximum(limit, 0.0) / mean)
        late: Floats = np.where(limit < 0, 1.0, share)
        return late


def waiting(
    servers: ArrayLike, work: ArrayLike, service: ArrayLike, variability: ArrayLike = 1.0
) -> Waiting:
    """Return the wait before ``servers`` equal servers that take from one queue.

    Args:
        servers: how many there are, ≥ 0; none is an infinite load.
        work: seconds of one server's time that arrive per second.
        service: mean seconds of one request on one server.
        variability: (c_a² + c_s²) ÷ 2; 1 for Poisson arrivals with exponential service.

    """
    count = np.asarray(servers, dtype=np.float64)
    arriving, seconds, spread = (
        np.asarray(x, dtype=np.float64) for x in (work, service, variability)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        load = np.where(arriving > 0, arriving / count, 0.0)
        stable = load < 1
        probability = np.where(stable, load ** (np.sqrt(2 * (count + 1)) - 1), 1.0)
        mean = np.where(stable, spread * seconds / (count * (1 - load)), np.inf)
    idle = arriving <= 0
    return Waiting(np.where(idle, 0.0, probability), np.where(idle, 0.0, mean))
