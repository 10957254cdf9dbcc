"""What a run of the world leaves behind: the material of every measure and of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.traffic.load import Floats


@dataclass(frozen=True, slots=True)
class Decision:
    """Something a policy did. Holds are only counted."""

    at: float
    """Seconds from the run's start."""
    service: str
    action: str
    """The core's action (scale_out, scale_in, reinstate, finish_scale_in, repair), or ``scale``."""
    reason: str
    bound_by: str
    delta: Mapping[Role, int]
    """Change of the counts that are to serve, with its sign; empty where none changes."""
    inputs: Mapping[str, str]
    instance_ids: tuple[str, ...] = ()

    @property
    def scales(self) -> bool:
        """Whether it is a scale event: a count that is to serve changes."""
        return any(self.delta.values())


@dataclass(frozen=True)
class Usage:
    """How busy a role's hardware was, by minute: GPU-seconds in service, and means over them."""

    gpu_seconds: Floats
    gpu_util: Floats
    """0 to 1; 0 where ``gpu_seconds`` is 0."""
    sm_activity: Floats

    @property
    def gpu_util_mean(self) -> float | None:
        """Mean over all GPU-seconds in service; None when there were none."""
        return _mean(self.gpu_util, self.gpu_seconds)

    @property
    def sm_activity_mean(self) -> float | None:
        """Likewise."""
        return _mean(self.sm_activity, self.gpu_seconds)


def _mean(values: Floats, weights: Floats) -> float | None:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total else None


@dataclass(frozen=True)
class ServiceResult:
    """One service's run."""

    service: str
    outcomes: Outcomes
    """By second of arrival; as long as the run with what came after the last arrival."""
    counts: Mapping[tuple[Role, InstanceState], Floats]
    """Mean instances by role and state in each minute of the trace."""
    signals: Mapping[str, Floats]
    """True values at the end of each minute; see ``SIGNALS`` in ``series``."""
    usage: Mapping[Role, Usage]
    decisions: tuple[Decision, ...]
    holds: Mapping[str, int]
    """How often nothing was done, by what bound it."""
    initial: Mapping[Role, int]
    """Counts in service at second 0."""


@dataclass(frozen=True)
class WorldResult:
    """One policy's run."""

    policy: str
    seconds: int
    """Length of the trace: what is billed, and what the series cover."""
    ran: int
    """Seconds that the run went on in all, until what was inside had been served."""
    intervals: tuple[Interval, ...]
    """Of all services, cut off at the trace's end."""
    services: Mapping[str, ServiceResult]
    launches_failed: int
    drains_forced: int
    wall_s: float
