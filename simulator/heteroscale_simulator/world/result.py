"""What a run of the world leaves behind: the material of every measure and of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.traffic.load import Floats

REVERSAL_WITHIN = 600.0
"""A scale event in the other direction within so many seconds is a reversal."""


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
class Hardware:
    """What the hardware of one role showed, over GPU-seconds in service; None: none was."""

    gpu_util: float | None
    sm_activity: float | None


@dataclass(frozen=True)
class ServiceResult:
    """One service's run."""

    service: str
    outcomes: Outcomes
    """By second of arrival; as long as the run with what came after the last arrival."""
    counts: Mapping[tuple[Role, InstanceState], Floats]
    """Mean instances by role and state in each minute of the trace."""
    signals: Mapping[str, Floats]
    """Newest true value at the end of each minute; see ``SIGNALS`` in ``series``."""
    hardware: Mapping[Role, Hardware]
    decisions: tuple[Decision, ...]
    holds: Mapping[str, int]
    """How often nothing was done, by what bound it."""
    initial: Mapping[Role, int]
    """Counts in service at second 0."""

    @property
    def scale_events(self) -> int:
        """Decisions that changed a count."""
        return sum(decision.scales for decision in self.decisions)

    @property
    def reversals(self) -> int:
        """Scale events that turn a role the other way within ten minutes of its event before."""
        return count_reversals(self.decisions)


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


def count_reversals(decisions: Sequence[Decision]) -> int:
    """Return how many scale events reverse a role within ``REVERSAL_WITHIN`` of its last event."""
    last: dict[Role, tuple[float, bool]] = {}
    found = 0
    for decision in decisions:
        turned = False
        for role, change in decision.delta.items():
            if not change:
                continue
            before = last.get(role)
            turned = turned or (
                before is not None
                and before[1] != (change > 0)
                and decision.at - before[0] <= REVERSAL_WITHIN
            )
            last[role] = (decision.at, change > 0)
        found += turned
    return found
