"""The largest load an instance holds its SLO under, by GPU type, at the context that is measured.

Decode: batch ÷ step of the largest batch whose step keeps the TBT SLO, whose KV fits, and which the
engine takes. Prefill: the fewest instances before which QUANTILE of the requests that can be met at
all see their first token within the TTFT SLO, by the queue of ``plant.queueing``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.measures.minutes import Minutes
from heteroscale_simulator.plant.port import Slo, Workload
from heteroscale_simulator.plant.queueing import waiting
from heteroscale_simulator.profiles import GpuProfile, LinkProfile
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Counts = NDArray[np.int64]

QUANTILE = 0.99
"""Share of requests that must see their first token in time, of those who can on a free instance."""
_SLACK = 1e-9


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
        holds &= step <= tbt * (1 + _SLACK)
    batch = np.where(holds, size, 0).max(axis=1)
    rows = np.arange(len(batch))
    return DecodeCapacity(batch, step[rows, np.maximum(batch, 1).astype(np.int64) - 1])


@dataclass(frozen=True)
class PrefillQueue:
    """Arriving prompts before instances of one GPU type; arrays (minutes, classes) or (minutes,)."""

    rate: Floats
    """Requests per second, by class."""
    room: Floats
    """Seconds that a request of the class may wait; negative: too late on a free instance."""
    work: Floats
    """Seconds of one instance's time that arrive per second."""
    service: Floats
    """Mean seconds of a prefill."""
    variability: Floats
    """(1 + squared coefficient of variation of prefills) ÷ 2: arrivals are Poisson in a minute."""

    @classmethod
    def of(
        cls, minutes: Minutes, speed: GpuProfile, journey: Journey, first_step: Floats
    ) -> PrefillQueue:
        """Return the queue of ``minutes``; ``first_step`` is the decode step that ends TTFT."""
        lengths = journey.missed(minutes.prompt).ravel()
        types = np.zeros(lengths.size, dtype=np.int64)
        own = SpeedGrid([speed]).prefill_seconds(types, lengths).reshape(minutes.prompt.shape)
        limit = np.inf if journey.slo.ttft is None else journey.slo.ttft * (1 + _SLACK)
        room = limit - own - journey.transfer(minutes.prompt) - first_step[:, None]
        total = np.maximum(minutes.rate.sum(axis=1), np.finfo(np.float64).tiny)
        work = (minutes.rate * own).sum(axis=1)
        mean = work / total
        square = (minutes.rate * own**2).sum(axis=1) / total
        some = np.where(mean > 0, mean, 1.0)
        spread = np.where(mean > 0, square / some**2, 1.0)  # 1 + c_s²
        return cls(minutes.rate, room, work, mean, spread / 2)

    def met(self, instances: Floats, share: Floats) -> Floats:
        """Return the share met in time of those who can be, with ``share`` of the arrivals."""
        queue = waiting(instances, self.work * share, self.service, self.variability)
        can = self.rate * (self.room >= 0)
        late = np.stack([queue.beyond(room) for room in self.room.T], axis=1)
        all_of_them = can.sum(axis=1)
        some = np.where(all_of_them > 0, all_of_them, 1.0)
        in_time: Floats = 1 - (can * late).sum(axis=1) / some
        return np.where(all_of_them > 0, in_time, 1.0)

    def need(self, share: Floats) -> Counts:
        """Return the fewest instances for ``share`` (0 to 1, by minute) of the arrivals."""
        low = np.floor(self.work * share)  # not enough, unless there is no work
        high, stride = low + 1, np.ones_like(low)
        while (wanting := ~self._holds(high, share)).any():
            low = np.where(wanting, high, low)
            stride = np.where(wanting, stride * 2, stride)
            high = np.where(wanting, high + stride, high)
        while (apart := high - low > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self._holds(middle, share)
            high = np.where(apart & enough, middle, high)
            low = np.where(apart & ~enough, middle, low)
        return np.where(self.work * share > 0, high, 0).astype(np.int64)

    def _holds(self, instances: Floats, share: Floats) -> NDArray[np.bool_]:
        stable = self.work * share < instances
        held: NDArray[np.bool_] = stable & (self.met(instances, share) >= QUANTILE)
        return held

    def held_share(self, instances: int, most: float = 1.0) -> Floats:
        """Return the largest share (0 to ``most``) of each minute's arrivals that so many hold."""
        count = np.full_like(self.work, instances)
        low, high = np.zeros_like(self.work), np.full_like(self.work, most)
        low = np.where(self._holds(count, high), most, low)
        for _ in range(40):
            middle = (low + high) / 2
            enough = self._holds(count, middle)
            low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        return low

    @property
    def reachable(self) -> float:
        """Requests per second, summed over minutes, that a free instance answers in time."""
        return float((self.rate * (self.room >= 0)).sum())
