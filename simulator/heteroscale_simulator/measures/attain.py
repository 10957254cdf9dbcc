"""Shares of requests that were served as promised, and means over them; each says its population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.traffic.load import Floats


@dataclass(frozen=True, slots=True)
class Attainment:
    """What became of requests, over one service or several."""

    requests: float
    """Requests that arrived."""
    failed: float
    """Of those, cut off or never to be served."""
    ttft: float | None
    """Share of the arrived whose first token came within the SLO; None: nobody arrived."""
    tbt: float | None
    """Share of the arrived whose mean time between tokens kept the SLO."""
    joint: float | None
    """Share of the arrived that finished and kept both."""

    @property
    def missed(self) -> float | None:
        """Share of the arrived that were not met: too late, failed, or never finished."""
        return None if self.joint is None else 1 - self.joint


def attainment(outcomes: Sequence[Outcomes]) -> Attainment:
    """Return the shares over all requests of all services; a request of a busy hour weighs as any."""
    arrived = _total(outcomes, lambda one: one.arrived)

    def share(column: Callable[[Outcomes], Floats]) -> float | None:
        # Sums of parts of requests: rounding may make more of all than there is.
        return min(1.0, _total(outcomes, column) / arrived) if arrived > 0 else None

    return Attainment(
        requests=arrived,
        failed=_total(outcomes, lambda one: one.failed),
        ttft=share(lambda one: one.ttft_met),
        tbt=share(lambda one: one.tbt_met),
        joint=share(lambda one: one.met),
    )


def mean_ttft(outcomes: Outcomes) -> float | None:
    """Return mean seconds to the first token, over the requests that had one; None: nobody had."""
    return _mean(outcomes.ttft_sum, outcomes.first_tokens)


def mean_tbt(outcomes: Outcomes) -> float | None:
    """Return the mean over finished requests of their mean seconds between tokens."""
    return _mean(outcomes.tbt_sum, outcomes.finished)


def worst_minutes(outcomes: Outcomes, percentile: float) -> float | None:
    """Return the joint attainment that ``percentile`` percent of the busy minutes reach or exceed.

    The population is the minutes in which requests arrived, each weighing as one: 95 gives the
    attainment that only one busy minute in twenty falls short of. None where nobody arrived.

    Raises:
        ValueError: the percentile is not between 0 and 100.

    """
    if not 0 <= percentile <= 100:  # noqa: PLR2004
        raise ValueError(f"a percentile is between 0 and 100, not {percentile:g}")
    if not len(outcomes.arrived):
        return None
    starts = np.arange(0, len(outcomes.arrived), 60)
    arrived = np.add.reduceat(outcomes.arrived, starts)
    met = np.add.reduceat(outcomes.met, starts)
    busy = arrived > 0
    if not busy.any():
        return None
    shares = met[busy] / arrived[busy]
    return float(np.percentile(shares, 100 - percentile, method="lower"))


def _total(outcomes: Sequence[Outcomes], column: Callable[[Outcomes], Floats]) -> float:
    return float(sum(column(one).sum() for one in outcomes))


def _mean(sums: Floats, counts: Floats) -> float | None:
    count = float(counts.sum())
    return float(sums.sum()) / count if count > 0 else None
