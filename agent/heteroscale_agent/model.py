"""Readings, instances and commands as frozen values: what every room of the agent speaks of.

Nothing here knows the wire, a library or a clock. Unknown is ``None``, never zero. Times called
``…_at`` are seconds of the agent's own monotonic clock; ages and durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import (
    GateState,
    GpuHealth,
    InstanceState,
    Outcome,
    Role,
    ScrapeQuality,
    WithdrawReason,
)

# ---- what stands on the host ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the driver listed at start; ``index`` is its place in every column of readings."""

    index: int
    uuid: str
    name: str
    type: str
    memory_bytes: int
    pci_address: str = ""
    numa_node: int | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One port of an RDMA device."""

    name: str
    port: int
    pci_address: str = ""
    numa_node: int | None = None
    rate_bps: int | None = None
    link_layer: str = ""
    hca_type: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class TemplateInfo:
    """What the coordinator may know of a launch template."""

    name: str
    role: Role
    gpus: int
    engine: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Slow facts of a host; sent when their hash is not known to the coordinator."""

    gpus: tuple[Gpu, ...] = ()
    nics: tuple[Nic, ...] = ()
    cpu_count: int = 0
    memory_bytes: int = 0
    topology: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[TemplateInfo, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    driver_version: str = ""


# ---- what was read -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None is unknown (not supported, lost, or the driver failed)."""

    health: GpuHealth = GpuHealth.OK
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    memory_used_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: int | None = None
    ecc_uncorrected: int | None = None
    process_count: int | None = None
    sm_activity_percent: float | None = None
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NicReading:
    """Raw counters of one port as sysfs gives them; octets are already multiplied by 4."""

    active: bool | None = None
    rate_bps: int | None = None
    received_octets: int | None = None
    sent_octets: int | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class HostReading:
    """CPU, memory and load of the host."""

    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    load_1m: float | None = None


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """A cumulative histogram: seconds, observations, and counts per bucket (not running sums).

    ``bounds`` are the upper bounds in seconds of all buckets but the last, unbounded one.
    """

    sum_seconds: float
    count: float
    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineScrape:
    """What one scrape of an engine's metrics endpoint said, in engine-neutral names."""

    generation_tokens: float | None = None
    prompt_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    requests_finished: float | None = None
    requests_aborted: float | None = None
    running: float | None = None
    waiting: float | None = None
    transferring: float | None = None
    kv_usage: float | None = None
    time_to_first_token: LatencyReading | None = None
    time_between_tokens: LatencyReading | None = None

    @property
    def in_flight(self) -> float | None:
        """Running + waiting + transferring; None when running or waiting is unknown."""
        if self.running is None or self.waiting is None:
            return None
        return self.running + self.waiting + (self.transferring or 0.0)


@dataclass(frozen=True, slots=True)
class EngineState:
    """The newest scrape of an instance, how old it is, and whether it can be relied on."""

    instance_id: str
    quality: ScrapeQuality
    scraped_at: float
    scrape: EngineScrape
    message: str = ""


# ---- what is reported ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LatencyCounters:
    """Since the instance was first seen, resets removed; bucket deltas on the wire's grid."""

    sum_seconds: float
    count: float
    bucket_deltas: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineReport:
    """An engine in a report: counters are cumulative with resets removed; gauges as scraped."""

    instance_id: str
    quality: ScrapeQuality
    age: float
    generation_tokens: float | None = None
    prompt_tokens: float | None = None
    computed_prompt_tokens: float | None = None
    requests_finished: float | None = None
    requests_aborted: float | None = None
    running: float | None = None
    waiting: float | None = None
    transferring: float | None = None
    kv_usage: float | None = None
    time_to_first_token: LatencyCounters | None = None
    time_between_tokens: LatencyCounters | None = None


@dataclass(frozen=True, slots=True)
class NicCounters:
    """A port in a report: cumulative since first seen, wraps and resets removed."""

    active: bool | None = None
    received_octets: int | None = None
    sent_octets: int | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One sample of the whole host."""

    sampled_at: float
    interval: float
    gpus: tuple[GpuReading, ...] = ()
    nics: tuple[NicCounters, ...] = ()
    host: HostReading = HostReading()
    engines: tuple[EngineReport, ...] = ()


# ---- instances -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gate:
    """How traffic reaches an instance: ``sglang-router``, ``hook``, ``file`` or ``none``."""

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


# ---- commands ------------------------------------------------------------------------------


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
    gate: Gate = Gate()
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


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """An instance changed; ``cause`` is the command that led to it, or empty."""

    status: InstanceStatus
    cause: str = ""
