"""What a plant is asked and what it answers. One plant holds the engines of one service.

The world owns the life of instances (start-up, gates, drains, hosts); the plant owns their work. The
world joins a seat when its engine is up, opens it when a router lists it, closes it when it is
withdrawn or draining (what it holds is served to the end), and removes it when its process is gone
(what it still holds has failed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heteroscale.words import Role
from heteroscale_simulator.traffic.load import Floats


@dataclass(frozen=True, slots=True)
class Seat:
    """An engine as the plant sees it."""

    instance_id: str
    role: Role
    gpu_type: str
    gpus: int
    """GPUs of the instance, all ranks."""
    domains: Mapping[str, str]
    """Names of its network domains by level: s0 (node), s1, s2; missing where unknown."""
    group: str = ""
    """Deployment group; routers pair prefill and decode of one group where both are open."""


@dataclass(frozen=True, slots=True)
class Slo:
    """The promise: a request is met when both hold. Seconds; None is not promised (always held)."""

    ttft: float | None = None
    """From arrival to the first token the client sees."""
    tbt: float | None = None
    """Mean time between a request's tokens."""


@dataclass(frozen=True)
class Readings:
    """What the engines' own metrics would say now; arrays over ``ids``, in that order.

    Counters are cumulative since the engine's start, as engines count them (field.md §1 by role: a
    prefill instance generates one token a request; cache-missed prompt tokens are its work).
    """

    ids: Sequence[str]
    generation_tokens: Floats
    prompt_tokens: Floats
    computed_prompt_tokens: Floats
    requests_finished: Floats
    requests_aborted: Floats
    running: Floats
    waiting: Floats
    transferring: Floats
    kv_usage: Floats
    """0 to 1."""
    ttft_sum: Floats
    ttft_count: Floats
    tbt_sum: Floats
    tbt_count: Floats
    gpu_util: Floats
    """Share of the last second in which a kernel ran, 0 to 1 (what NVML calls GPU utilisation)."""
    sm_activity: Floats
    """Share of SM-seconds with a resident warp in the last second, 0 to 1 (DCGM's SM active)."""
    rdma_share: Floats
    """Busy share of the links that carry KV, 0 to 1: those of all engines together."""


@dataclass(frozen=True)
class Outcomes:
    """What became of the requests, by the second of their arrival; arrays of length ``seconds``.

    ``arrived`` = finished + failed + what is unfinished at the end: nothing is lost (in tests).
    Sums of requests unless said otherwise.
    """

    arrived: Floats
    finished: Floats
    failed: Floats
    """Cut off: their engine ended with them, or nothing could ever serve them."""
    ttft_met: Floats
    tbt_met: Floats
    met: Floats
    """Both met, and finished."""
    ttft_sum: Floats
    """Σ seconds to first token over requests that had one."""
    first_tokens: Floats
    """Requests that had a first token."""
    tbt_sum: Floats
    """Σ mean time between tokens over the finished."""
    input_tokens: Floats
    """Σ of the arrived."""
    output_tokens: Floats
    """Σ generated so far."""


class Plant(Protocol):
    """Engines of one service under load."""

    def join(self, seat: Seat) -> None:
        """Add an engine that is up but takes no traffic. ValueError: no speed is known for it."""

    def open(self, instance_id: str) -> None:
        """Let new requests reach it."""

    def close(self, instance_id: str) -> None:
        """Send it no new requests."""

    def remove(self, instance_id: str) -> None:
        """End it; requests that it holds fail."""

    def held(self, instance_id: str) -> float:
        """Return the requests that it still works on, holds for a fetch, or has queued."""

    def advance(self, requests: Floats, input_tokens: Floats, output_tokens: Floats) -> None:
        """Move on one second, in which these arrive (arrays by class; see ``Load``)."""

    def readings(self) -> Readings:
        """Return what every joined engine's metrics say now."""

    def outcomes(self) -> Outcomes:
        """Return what became of all requests so far, by second of arrival."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Properties of the requests that lengths do not tell."""

    cache_hit: float = 0.0
    """Share of prompt tokens found in the prefix cache, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Wear:
    """How engines are slower than their tables."""

    warm_up: float = 0.0
    """Seconds after joining in which an engine runs at ``warm_up_speed``."""
    warm_up_speed: float = 1.0
    jitter: float = 0.0
    """Relative standard deviation of speed from engine to engine."""


@dataclass(frozen=True, slots=True)
class PlantSettings:
    """What a plant is made of, beyond the profile of its engines."""

    slo: Slo
    workload: Workload = field(default_factory=Workload)
    wear: Wear = field(default_factory=Wear)
    seed: int = 0
