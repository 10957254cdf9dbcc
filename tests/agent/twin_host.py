"""A host of twins behind the real eyes: 8 GPUs and 8 NICs whose values move, engines as wanted.

A device's worker answers at once, or, when it `hangs`, never. Engines' texts come from a function, so
that hours of samples take seconds; without one they come over HTTP as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.model import Gpu, GpuReading, Nic, NicReading, Report
from heteroscale_agent.ports import Clock, ScrapeTarget
from heteroscale_agent.probes.blocking import BlockingSource
from heteroscale_agent.probes.gpu import GpuProbe
from heteroscale_agent.probes.gpu.watch import GpuView, GpuWatch
from heteroscale_agent.probes.rdma import RdmaSight
from heteroscale_agent.probes.watch import EngineWatch
from heteroscale_agent.probes.worker import Worker

Text = Callable[[str, float], str]
"""What the engine at a URL says at a time."""

_COUNT = 8
_OCTETS_PER_S = 10_000_000_000
_WRAP = 4 << 32
_RATE_BPS = 400_000_000_000
_GPUS = tuple(Gpu(i, f"GPU-{i}", "NVIDIA H100", "H100", 1 << 36) for i in range(_COUNT))
_NICS = tuple(Nic(f"mlx5_{i}", 1, rate_bps=_RATE_BPS) for i in range(_COUNT))


class TwinWorker(Worker):
    """Does a job at once, in the same thread; or hangs, and never does it."""

    hangs = False

    def call(self, job: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.hangs:
            future.set_result(job())
        return future

    def close(self) -> None:
        pass


class TwinGpus(GpuProbe):
    """GPUs without a driver."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(drivers=(), clock=clock)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return _GPUS

    def look(self) -> tuple[GpuReading, ...]:
        return self.read()

    def read(self) -> tuple[GpuReading, ...]:
        turn = int(self._clock())
        return tuple(
            GpuReading(
                utilization_percent=(turn + gpu.index) % 100,
                memory_used_bytes=(turn % 1000) << 20,
                power_watts=400 + turn % 300 + 0.5,
                temperature_celsius=40 + turn % 40,
                ecc_uncorrected=turn // 10_000,
                process_count=1,
            )
            for gpu in self.gpus
        )


class TwinWatch(EngineWatch):
    """Reads an engine's text from a function."""

    def __init__(self, target: ScrapeTarget, clock: Clock, timeout: float, text: Text) -> None:
        super().__init__(target, clock, timeout)
        self._says = text
        self.samples = 0

    async def _text(self, url: str) -> str:
        return self._says(url, self._clock())


class TwinEyes(HostEyes):
    """The real eyes on twins of devices."""

    def __init__(self, spec: AgentSpec, clock: Clock, text: Text | None = None) -> None:
        super().__init__(spec, clock=clock, environ={})
        self.gpu_worker, self.nic_worker = TwinWorker("gpu"), TwinWorker("nic")
        self._gpu_worker, self._nic_worker = self.gpu_worker, self.nic_worker
        self._nics = BlockingSource("rdma", self._nic_worker, self._read_nics, clock)
        self._says = text
        self.samples = 0

    async def sample(self) -> Report:
        self.samples += 1
        return await super().sample()

    async def find(self) -> TwinEyes:
        await self._find_devices()
        return self

    @property
    def watched(self) -> int:
        """How many engines are kept in mind."""
        return len(self._watches)

    async def _open_gpus(self) -> GpuView:
        watch = GpuWatch(TwinGpus(self._clock))
        self._gpus = BlockingSource("gpu", self._gpu_worker, watch.look, self._clock)
        return GpuView(_GPUS)

    def _read_nics(self) -> RdmaSight:
        now = self._clock()
        octets = int(now * _OCTETS_PER_S)
        readings = tuple(
            # Some as new adapters count, some as old ones, which wrap every few seconds.
            NicReading(
                at=now,
                active=True,
                rate_bps=_RATE_BPS,
                received_octets=octets if i % 2 else octets % _WRAP,
                sent_octets=octets // 2,
                errors={"out_of_buffer": int(now) // 60, "symbol_error": 0},
                congestion_marks={"np_cnp_sent": octets % 2**32},
                link_downed=int(now) // 3600,
            )
            for i in range(_COUNT)
        )
        return RdmaSight(_NICS, readings, (None,) * _COUNT)

    def _watch(self, target: ScrapeTarget) -> EngineWatch:
        if self._says is None:
            return super()._watch(target)
        return TwinWatch(target, self._clock, self._spec.scrape_timeout, self._says)
