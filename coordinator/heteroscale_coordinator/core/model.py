"""The values that the core speaks of: nodes, instances, services, commands, decisions.

All frozen. Times are seconds since 1970 on the coordinator's own clock, which never goes back
(design: ``now = max(wall, last committed)``). Unknown is ``None``, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from heteroscale.taints import Taints
from heteroscale.words import (
    GateState,
    InstanceState,
    Outcome,
    Role,
    ScrapeQuality,
    WithdrawReason,
)
from heteroscale_coordinator.core.devices import GpuFact, NicFact
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import Sum

Counts = Mapping[Role, int]
"""A number for each role: a step {ΔP, ΔD}, or wanted counts."""

# ---- what agents tell ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TemplateFact:
    """A launch template that an agent allows."""

    name: str
    role: Role
    gpus: int
    engine: str
    switches_role: bool = False
    """Its engines change between prefill and decode while they run."""
    engine_version: str = ""
    """As the agent's configuration says; empty: untold."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Slow facts of a node. ``topology`` maps a level (s0, s1, s2 …) to the domain's name."""

    hash: str = ""
    gpus: tuple[GpuFact, ...] = ()
    nics: tuple[NicFact, ...] = ()
    topology: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[TemplateFact, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    topology_sources: Mapping[str, str] = field(default_factory=dict)
    """Level to where its name came from, in words."""
    taints: Taints = ()
    """Taints that keep away whoever does not tolerate them."""
    read_as: int = 0
    """How much of what agents tell was read into it: less than is read now, and it is asked for anew."""


class LatencySample(NamedTuple):
    """Cumulative seconds and observations; bucket deltas since the report before."""

    sum_seconds: float
    observations: float
    bucket_deltas: tuple[int, ...] = ()


class EngineSample(NamedTuple):
    """One engine in one report. Counters are cumulative, with resets removed by the agent."""

    instance_id: str
    quality: ScrapeQuality
    at: float
    """When the values were true, on the coordinator's clock."""
    generation_tokens: float | None = None
    prompt_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    requests_finished: float | None = None
    requests_aborted: float | None = None
    running: float | None = None
    waiting: float | None = None
    transferring: float | None = None
    kv_usage: float | None = None
    ttft: LatencySample | None = None
    tbt: LatencySample | None = None
    gpu_percent: float | None = None
    """Utilisation of its GPUs by its own processes, as the driver tells; for GPUs that are shared."""


class RouterSample(NamedTuple):
    """One router of a service in one report. Counters are cumulative, with resets removed."""

    name: str
    service: str
    url: str
    """Which router it is, seen from any host: several agents may watch the same one."""
    quality: ScrapeQuality
    at: float
    """When the values were true, on the coordinator's clock."""
    requests_finished: float | None = None
    requests_failed: float | None = None
    requests_rejected: float | None = None
    running: float | None = None
    waiting: float | None = None
    ttft: LatencySample | None = None
    tbt: LatencySample | None = None


@dataclass(frozen=True, slots=True)
class StandsFor:
    """What an agent within a scheduler's job is there for: to start one rank, and to tell of it."""

    instance_id: str
    rank: int
    within: str
    """The node, as its adapter's agent is called: `<cluster>/<node>`."""


@dataclass(frozen=True, slots=True)
class RankFact:
    """One rank of an instance as its agent sees it (``InstanceStatus`` on the wire)."""

    instance_id: str
    service: str
    role: Role
    state: InstanceState
    generation: int
    rank: int = 0
    rank_count: int = 1
    reason: WithdrawReason | None = None
    gate_state: GateState = GateState.CLOSED
    endpoint: str = ""
    group: str = ""
    template: str = ""
    gpu_indices: tuple[int, ...] = ()
    message: str = ""
    terminating: bool = False
    startup_time: float | None = None
    state_age: float = 0.0
    origin: str = ""
    gpu_type: str = ""
    """Where who tells has no inventory; empty: as the agent's inventory says."""
    ends_at: float | None = None
    """When its scheduler ends it, on the coordinator's clock (a time limit); None: none is told."""
    turn: tuple[str, int] | None = None
    """Of which object it is, and its number: the highest ends first. None: it may leave before all."""


# ---- instances -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one process of an instance stands, and the last that was heard of it."""

    agent_id: str
    gpu_indices: tuple[int, ...]
    state: InstanceState = InstanceState.PENDING
    generation: int = 0
    """As its voice last said."""
    speaker: str = ""
    """The agent within its job, once it was heard: it tells of the rank in place of the node's."""

    @property
    def voice(self) -> str:
        """The agent that tells of it and takes its orders."""
        return self.speaker or self.agent_id


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as the coordinator knows it; rank 0 speaks for it."""

    instance_id: str
    service: str
    role: Role
    ranks: tuple[Rank, ...]
    state: InstanceState
    generation: int
    """Rank 0's generation as last heard; commands expect it."""
    created_at: float
    changed_at: float
    template: str = ""
    group: str = ""
    gpu_type: str = ""
    reason: WithdrawReason | None = None
    gate_state: GateState = GateState.CLOSED
    endpoint: str = ""
    message: str = ""
    cause: str = ""
    """The decision or wish that last moved it."""
    terminating: bool = False
    startup_time: float | None = None
    silent_from: InstanceState | None = None
    """While UNKNOWN or LOST: the state before."""
    replaced: bool = False
    """LOST, and another was launched for it: on return it is withdrawn first, never killed at sight."""
    origin: str = ""
    """Not launched by us: a fact. Empty for our own."""
    ends_at: float | None = None
    """When its scheduler ends it (a time limit), as its node last told; None: none is told."""
    leaves_by: float | None = None
    """The end for which a successor is sought: it serves until that one does, and is no supply."""
    turn: tuple[str, int] | None = None
    """Of which object it is, and its number: its scheduler ends the highest first. None: any."""

    @property
    def agent_id(self) -> str:
        """The agent of rank 0."""
        return self.ranks[0].agent_id

    @property
    def voice(self) -> str:
        """The agent that tells of rank 0 and takes its orders."""
        return self.ranks[0].voice

    def told_by(self, agent_id: str) -> bool:
        """Return whether an agent is the voice of any rank."""
        return any(rank.voice == agent_id for rank in self.ranks)

    @property
    def ours(self) -> bool:
        """Whether its agent may withdraw and stop it: launched by us, or found with our tag."""
        return self.origin in ("", "found")


LIVE_STATES = frozenset(
    {
        InstanceState.PENDING,
        InstanceState.LAUNCHING,
        InstanceState.WARMING,
        InstanceState.IN_SERVICE,
        InstanceState.WITHDRAWN,
        InstanceState.DRAINING,
        InstanceState.UNKNOWN,
    }
)
"""States in which an instance holds its GPUs (LOST too, until its agent returns or is forgotten)."""

STARTING_STATES = frozenset({InstanceState.PENDING, InstanceState.LAUNCHING, InstanceState.WARMING})


def counts_as_supply(instance: Instance) -> bool:
    """Return whether the laws count it: in service, on its way there, or silent but not given up.

    ``ratio_hold`` is on its way; every other withdrawal is on its way out, and so is what serves only
    until a successor does.
    """
    if instance.leaves_by is not None:
        return False
    if instance.state is InstanceState.WITHDRAWN:
        return instance.reason is WithdrawReason.RATIO_HOLD
    return instance.state in STARTING_STATES or instance.state in (
        InstanceState.IN_SERVICE,
        InstanceState.UNKNOWN,
    )


# ---- services --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its specification, the operator's switches, the policy's memory."""

    name: str
    spec: ServiceSpec
    document: str = ""
    paused: str = ""
    """Why it is paused; empty: it is not."""
    memory: PolicyMemory = field(default_factory=PolicyMemory)
    quarantine: str = ""
    deleting: bool = False


# ---- decisions -------------------------------------------------------------------------------


class Action(StrEnum):
    """What a decision does."""

    HOLD = "hold"
    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    """Soft: withdraw and observe."""
    REINSTATE = "reinstate"
    FINISH_SCALE_IN = "finish_scale_in"
    """Drain what was withdrawn."""
    REPAIR = "repair"
    """Launch what is missing of the wanted counts."""
    RELEASE = "release"
    """Let into service what waited, Ready, for the ratio."""
    RENEW = "renew"
    """Drain what its scheduler ends soon: once a successor serves, or at the last moment for it."""
    SWITCH_ROLE = "switch_role"
    """Have one instance of a role with some to spare change to the one that is short."""


class SignalValue(NamedTuple):
    """A signal as the decision saw it; quality: ok, partial, stale, missing or idle."""

    name: str
    value: float | None
    unit: str
    quality: str
    coverage: float = 1.0
    window: float = 0.0
    """Seconds that the value stands for; 0: the newest reading."""
    freshness: float = 0.0
    """Seconds after which a reading is unknown; 0: it does not come from readings."""
    reason: str = ""
    """Why the quality is not plainly ok, and who was set aside."""


class Range(NamedTuple):
    """Between what a figure moved while the same was decided again and again."""

    lowest: float
    highest: float
    unit: str = ""


class Together(NamedTuple):
    """A demand on placement: prefill and decode of the step share a domain of ``level``, or it waits."""

    level: Literal["s1", "s2"]
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says: how many, never where. A reason also when it is "hold"."""

    action: Action
    reason: str
    """One human sentence; log, API and tests share it."""
    bound_by: str
    """The stage that bound the outcome: demand, guard, consent, ratio, bounds, cooldown, coverage …"""
    memory: PolicyMemory
    """To be kept in any case."""
    done: PolicyMemory
    """To be kept instead when the action is carried out (placed, withdrawn …)."""
    delta: Counts = field(default_factory=dict)
    """SCALE_OUT and REPAIR: instances to add; SCALE_IN: to withdraw (positive); REINSTATE: how many
    of each role to take back; RELEASE: how many that waited to let into service; SWITCH_ROLE: 1
    and −1."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Inputs by name, in words."""
    signals: tuple[SignalValue, ...] = ()
    sums: Mapping[str, Sum] = field(default_factory=dict)
    """Arithmetic by name: formula, terms and value, so that it can be done again exactly."""
    cause: str = ""
    """Of what launches or withdraws: why, without what is done about it; said again when it finds no
    place, or others are asked to do it."""
    prefer: frozenset[str] = frozenset()
    """SCALE_IN: instances to be taken first."""
    before: Counts = field(default_factory=dict)
    """The counts of supply that ``delta`` is added to, or taken from."""
    together: Together | None = None
    """What placement must keep together for now; None: as the service's spec says."""
    hold: Counts = field(default_factory=dict)
    """SCALE_OUT and REPAIR: how many of those to add wait, once Ready, for the other role."""
    hold_for: float = 0.0
    """Seconds that they wait at most."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with where it was carried out, as recorded and shown."""

    decision_id: str
    service: str
    at: float
    action: Action
    reason: str
    bound_by: str
    delta: Counts = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    instance_ids: tuple[str, ...] = ()
    advisory: bool = False
    signals: tuple[SignalValue, ...] = ()
    repeat_count: int = 1
    last_at: float = 0.0
    sums: Mapping[str, Sum] = field(default_factory=dict)
    """Arithmetic by name; see ``core.sums``."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Of a run of equal decisions: between what its figures moved; those that did not are left out."""


# ---- commands --------------------------------------------------------------------------------


class Verb(StrEnum):
    """What a command does."""

    LAUNCH = "launch"
    WITHDRAW = "withdraw"
    REINSTATE = "reinstate"
    DRAIN = "drain"
    TERMINATE = "terminate"
    SWITCH_ROLE = "switch_role"


class CommandState(StrEnum):
    """The life of a command: open until the agent's last word, or its deadline."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Command:
    """One order to one agent, carried out at most once. What it needs beyond this is in the spec."""

    command_id: str
    verb: Verb
    agent_id: str
    instance_id: str
    service: str
    cause: str
    expected_generation: int
    created_at: float
    expires_at: float
    state: CommandState = CommandState.OPEN
    rank: int = 0
    reason: WithdrawReason | None = None
    lease: float | None = None
    message: str = ""
    role: Role | None = None
    """What a `switch_role` makes of it."""

    @property
    def ended(self) -> bool:
        """Whether the last word on it has been spoken."""
        return self.state not in (CommandState.OPEN, CommandState.ACCEPTED)


ANSWERED = {
    Outcome.DONE: CommandState.DONE,
    Outcome.REFUSED: CommandState.REFUSED,
    Outcome.FAILED: CommandState.FAILED,
    Outcome.UNKNOWN: CommandState.UNKNOWN,
    Outcome.ACCEPTED: CommandState.ACCEPTED,
}
