"""Shares of requests that were served as promised; each says its population."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def _total(outcomes: Sequence[Outcomes], column: Callable[[Outcomes], Floats]) -> float:
    return float(sum(column(one).sum() for one in outcomes))
