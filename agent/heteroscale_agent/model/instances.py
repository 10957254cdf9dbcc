"""Instances as they are told of: what events and hellos carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import GateState, InstanceState, Role, WithdrawReason


@dataclass(frozen=True, slots=True)
class Gate:
    """How traffic reaches an instance; the kinds are those of `heteroscale_agent.hands.gates`."""

    kind: str = "none"
    routers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One rank of an instance as this agent sees it; what events and hellos carry."""

    instance_id: str
    service: str
    role: Role
    state: InstanceState
    generation: int
    rank: int = 0
    rank_count: int = 1
    withdraw_reason: WithdrawReason | None = None
    gate_state: GateState = GateState.CLOSED
    endpoint: str = ""
    group: str = ""
    template: str = ""
    gpu_indices: tuple[int, ...] = ()
    pid: int = 0
    lease_remaining: float | None = None
    state_age: float = 0.0
    message: str = ""
    terminating: bool = False
    adopted: bool = False
    exit_code: int | None = None
    gate: Gate = Gate()
    startup_time: float | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """An instance changed; ``cause`` is the command that led to it, or empty."""

    status: InstanceStatus
    cause: str = ""
