"""What is reported: counters that only grow, gauges as they were seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from heteroscale.words import ScrapeQuality
from heteroscale_agent.model.devices import GpuReading, HostReading


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
    gpu_memory_used_bytes: float | None = None
    """Of the instance's own processes on its GPUs."""
    gpu_sm_percent: float | None = None


@dataclass(frozen=True, slots=True)
class RouterReport:
    """A router in a report: what users feel, where no engine can know it."""

    name: str
    service: str
    url: str
    quality: ScrapeQuality
    age: float
    time_to_first_token: LatencyCounters | None = None
    time_between_tokens: LatencyCounters | None = None
    requests_finished: float | None = None
    requests_failed: float | None = None
    """Ended with an error other than a refusal."""
    requests_rejected: float | None = None
    """Refused: 429 and 503."""
    running: float | None = None
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class NicCounters:
    """A port in a report: cumulative since first seen, wraps and resets removed."""

    active: bool | None = None
    received_octets: int | None = None
    sent_octets: int | None = None
    errors: int | None = None
    """Of link and transport; that the link went down is counted by itself."""
    congestion_marks: int | None = None
    """CNPs sent, handled and ignored, packets that came marked by ECN."""
    retransmissions: int | None = None
    """Reasons why this port sent something again."""
    link_flaps: int | None = None
    """How often the link went down."""
    share: float | None = None
    """The busier direction since the sample before, as a share (0 to 1) of what the port can carry."""
    rate_bps: int | None = None
    """The rate now, which can be less than the port's best; unknown while the link is down."""
    xmit_wait: int | None = None
    """Ticks in which data waited and none was sent: congestion on InfiniBand."""


@dataclass(frozen=True, slots=True)
class Report:
    """One sample of the whole host."""

    sampled_at: float
    interval: float
    gpus: tuple[GpuReading, ...] = ()
    nics: tuple[NicCounters, ...] = ()
    host: HostReading = field(default_factory=HostReading)
    engines: tuple[EngineReport, ...] = ()
    routers: tuple[RouterReport, ...] = ()
