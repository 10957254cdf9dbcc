"""What the coordinator wants done, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Outcome, Role, WithdrawReason
from heteroscale_agent.model.instances import Gate, InstanceStatus


@dataclass(frozen=True, slots=True)
class Launch:
    """Start one rank from a named template."""

    service: str
    role: Role
    template: str
    gpu_indices: tuple[int, ...]
    rank: int = 0
    rank_count: int = 1
    group: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    startup_timeout: float = 600.0
    leader_host: str = ""
    ratio_hold: float | None = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Out of service, still running. ``lease`` seconds for soft_scale_in and ratio_hold."""

    reason: WithdrawReason
    lease: float | None = None


@dataclass(frozen=True, slots=True)
class Reinstate:
    """Back into service."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Empty, then stop. Seconds throughout; ``force_after`` None waits for ever."""

    lease: float
    settle_time: float
    quiet_scrapes: int
    force_after: float | None
    grace: float


@dataclass(frozen=True, slots=True)
class Terminate:
    """Stop without waiting for requests in flight."""

    grace: float


@dataclass(frozen=True, slots=True)
class SwitchRole:
    """Change a running instance's role, where the engine can."""

    role: Role


Action = Launch | Withdraw | Reinstate | Drain | Terminate | SwitchRole


@dataclass(frozen=True, slots=True)
class Command:
    """What the coordinator wants done, at most once.

    ``expires_at`` is on the agent's monotonic clock, worked out by the link from the server's time.
    """

    command_id: str
    cause: str
    epoch: int
    instance_id: str
    expected_generation: int
    expires_at: float
    action: Action


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; the first answer to an id is its answer for ever."""

    command_id: str
    outcome: Outcome
    message: str = ""
    status: InstanceStatus | None = None
