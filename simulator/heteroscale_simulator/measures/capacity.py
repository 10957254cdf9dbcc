"""The largest load an instance holds its SLO under, by GPU type, at the context that is measured.

Decode: batch ÷ step of the largest batch whose step keeps the TBT SLO, whose KV fits, and which the
engine takes. Prefill, in ``prefill_queue``: the fewest instances before which QUANTILE of the requests
that can be met at all see their first token within the TTFT SLO.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.port import Slo, Workload
from heteroscale_simulator.profiles import GpuProfile, LinkProfile
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Counts = NDArray[np.int64]

LINK_LOAD = 0.9
"""Of a link; near its limit transfers wait for one another: 5.5 times their own time at 0.9."""
QUANTILE = 0.99
"""Share of requests that must see their first token in time, of those who can on a free instance."""
SLACK = 1e-9
"""What rounding may add to a promise, relatively."""


@dataclass(frozen=True)
class Offer:
    """A GPU type on which a role may run."""

    gpu_type: str
    gpus: int
    """GPUs of one instance."""
    speed: GpuProfile
    lead: float = 0.0
    """Seconds from a launch until the instance takes traffic."""


@dataclass(frozen=True)
class Journey:
    """What a request meets beside the prefill's queue."""

    slo: Slo
    workload: Workload
    link: LinkProfile
    """The way of KV from prefill to decode."""
    kv_bytes: float
    """Bytes of KV of one prompt token."""

    @property
    def carried(self) -> float:
        """Prompt tokens whose KV one instance's link carries in a second, a little below its limit."""
        return LINK_LOAD * self.link.gigabytes_per_second * 1e9 / self.kv_bytes

    def missed(self, prompt: Floats) -> Floats:
        """Return the tokens of prompts that the prefix cache does not have."""
        tokens: Floats = prompt * (1 - self.workload.cache_hit)
        return tokens

    def transfer(self, prompt: Floats) -> Floats:
        """Return the seconds that the KV of prompts travels."""
        wire = prompt * self.kv_bytes / (self.link.gigabytes_per_second * 1e9)
        seconds: Floats = wire + self.link.latency_ms / 1000
        return seconds


@dataclass(frozen=True)
class DecodeCapacity:
    """The largest load of a decode instance, by context; arrays of one shape."""

    batch: Floats
    """Requests together; 0 where not even one keeps the SLO."""
    step: Floats
    """Seconds of a step of that batch; of a batch of one where ``batch`` is 0."""

    @property
    def rate(self) -> Floats:
        """Tokens per second; 0 where the SLO cannot be held."""
        tokens: Floats = self.batch / self.step
        return tokens


def decode_capacity(speed: GpuProfile, context: Floats, tbt: float | None) -> DecodeCapacity:
    """Return the largest batches that hold ``tbt`` (seconds; None: any) at contexts of shape (n,)."""
    sizes = np.arange(1, speed.max_batch + 1, dtype=np.float64)
    size, at = np.meshgrid(sizes, context, copy=False)
    types = np.zeros(size.size, dtype=np.int64)
    step = SpeedGrid([speed]).step_seconds(types, size.ravel(), at.ravel()).reshape(size.shape)
    holds = size * np.maximum(at, 1.0) <= speed.kv_capacity_tokens
    if tbt is not None:
        holds &= step <= tbt * (1 + SLACK)
    batch = np.where(holds, size, 0).max(axis=1)
    rows = np.arange(len(batch))
    return DecodeCapacity(batch, step[rows, np.maximum(batch, 1).astype(np.int64) - 1])
