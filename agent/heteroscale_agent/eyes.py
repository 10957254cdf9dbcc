"""The agent's eyes: every source read side by side, each on its own deadline, into one report.

A sample waits a part of the interval for its sources and then takes what is there. A source that
is still at it goes on by itself: never two reads of one source at once, and nobody waits for it.
What it last said is used while it is fresh; after that it is unknown.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import compress
from typing import Any, Self

import structlog

from heteroscale.words import GpuHealth, ScrapeQuality
from heteroscale_agent.config import AgentSpec, Router
from heteroscale_agent.model import (
    EngineReport,
    EngineState,
    Gpu,
    GpuReading,
    Inventory,
    Nic,
    NicCounters,
    Report,
    TemplateInfo,
)
from heteroscale_agent.nics import NicSampler
from heteroscale_agent.ports import Clock, GpuHolder, ScrapeTarget
from heteroscale_agent.probes import host
from heteroscale_agent.probes.blocking import BlockingSource
from heteroscale_agent.probes.gpu import GpuProbe
from heteroscale_agent.probes.gpu.watch import GpuView, GpuWatch
from heteroscale_agent.probes.kube import within
from heteroscale_agent.probes.rdma import RdmaProbe, RdmaSight, rdma_rules
from heteroscale_agent.probes.topology import Found, TopologyWatch
from heteroscale_agent.probes.versions import Versions
from heteroscale_agent.probes.watch import EngineWatch, RouterWatch
from heteroscale_agent.probes.worker import Worker

HISTORY_SECONDS = 120.0
HISTORY_SPACING = 5.0
"""Seconds between what is kept of them, but for the newest; windows need no closer ones."""
OPEN_DEADLINE = 30.0
"""Seconds a driver may take to wake up at the agent's start; the GPUs of a later one come later."""
PLACE_PATIENCE = 5.0
"""Seconds that the sources of network domains may take at the agent's start; later is fine too."""
SEATS_FILE = "gpus.json"
"""In the state directory: which GPU has which index."""

_MOST_SAMPLERS = 1_024
"""Ports that were ever seen; virtual functions come and go under new identities."""
_PATIENCE = 0.5
"""The part of the sample interval that a sample waits for its sources."""

log = structlog.get_logger(__name__)


class HostEyes:
    """Sees one host. Made by `open`, let go by `close`; implements `ports.Eyes`."""

    def __init__(
        self,
        spec: AgentSpec,
        *,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        """Use `open`: it also finds the devices."""
        self._spec, self._clock, self._environ = spec, clock, environ
        self._host = host.HostProbe()
        self._gpu_worker, self._nic_worker = Worker("gpu-probe"), Worker("rdma-probe")
        self._gpu_watch: GpuWatch | None = None
        self._gpus: BlockingSource[GpuView] | None = None
        self._view = GpuView()
        self._nic_probe = RdmaProbe(
            spec.rdma.root, rdma_rules(spec.rdma), pci_root=spec.rdma.pci_root, clock=clock
        )
        self._nics = BlockingSource("rdma", self._nic_worker, self._nic_probe.read, clock)
        self._nic_samplers: dict[tuple[str, int, str], NicSampler] = {}
        self._inventory = Inventory()
        self._topology: TopologyWatch | None = None
        self._watches: dict[str, EngineWatch] = {}
        self._routers = [self._watch_router(router) for router in spec.routers]
        self._versions = Versions(clock, spec.scrape_timeout)
        self._history: deque[Report] = deque()

    @classmethod
    async def open(
        cls,
        spec: AgentSpec,
        *,
        clock: Clock = time.monotonic,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Find the host's devices and be ready to sample.

        Raises:
            TopologyError: HETEROSCALE_TOPOLOGY is malformed. A missing driver is no error.

        """
        eyes = cls(
            spec,
            clock=clock,
            environ=os.environ if environ is None else environ,
        )
        await eyes._find_devices()
        return eyes

    async def close(self) -> None:
        """End what is under way; does not wait for a source that hangs."""
        watches = (*self._watches.values(), *self._routers)
        await asyncio.gather(self._versions.close(), *(watch.close() for watch in watches))
        if self._topology is not None:
            await self._topology.close()
        if self._gpu_watch is not None:
            self._gpu_worker.call(self._gpu_watch.close)
        self._nic_worker.call(self._nic_probe.close)
        self._gpu_worker.close()
        self._nic_worker.close()

    def inventory(self) -> Inventory:
        """Return the slow facts of the host; another object since others were found.

        What a report says of devices is in the order of the inventory as of that report's `sample`.
        """
        return self._inventory

    def set_targets(self, targets: Iterable[ScrapeTarget]) -> None:
        """Replace the set of engines to scrape; counters of a kept instance go on."""
        wanted = {target.instance_id: target for target in targets}
        for gone in self._watches.keys() - wanted.keys():
            self._watches.pop(gone).cancel()
        for instance_id, target in wanted.items():
            watch = self._watches.get(instance_id)
            if watch is None:
                self._watches[instance_id] = self._watch(target)
            else:
                watch.target = target

    def set_holders(self, holders: Iterable[GpuHolder]) -> None:
        """Replace what is known of who holds which GPU."""
        if self._gpu_watch is not None:
            self._gpu_watch.hold(holders)

    def engine(self, instance_id: str) -> EngineState | None:
        """Return the newest state of an engine, or None when it is no target."""
        watch = self._watches.get(instance_id)
        return None if watch is None else watch.state

    async def sample(self) -> Report:
        """Take one sample of everything within half an interval; what is late is left behind."""
        await self._look(self._spec.sample_interval * _PATIENCE)
        self._take_versions()
        report = self._report(self._clock())
        self._remember(report)
        return report

    async def _look(self, patience: float) -> None:
        """Ask every source that is not still at it; wait for those that answer within `patience` (s)."""
        devices = [source for source in (self._gpus, self._nics) if source is not None]
        sources = (*devices, *self._watches.values(), *self._routers)
        idle = [source for source in sources if not source.busy]
        # What was slow the last time is asked as well, but not waited for: it delays one sample, not
        # each, and the next one has its answer.
        prompt = [source.took <= patience for source in idle]
        asked: list[asyncio.Future[Any]] = [source.start() for source in idle]
        if awaited := list(compress(asked, prompt)):
            await asyncio.wait(awaited, timeout=patience)
        else:
            await asyncio.sleep(0)

    def _watch(self, target: ScrapeTarget) -> EngineWatch:
        return EngineWatch(target, self._clock, self._spec.scrape_timeout)

    def _watch_router(self, router: Router) -> RouterWatch:
        host = self._spec.advertise_host
        return RouterWatch(router, host, self._clock, self._spec.scrape_timeout)

    def _remember(self, report: Report) -> None:
        """Keep it for the next hello, which tells of engines and routers alone."""
        kept = self._history
        if len(kept) > 1 and kept[-1].sampled_at - kept[-2].sampled_at < HISTORY_SPACING:
            kept.pop()
        kept.append(replace(report, gpus=(), nics=()))
        while kept[0].sampled_at < report.sampled_at - HISTORY_SECONDS:
            kept.popleft()

    def gpus_now(self) -> tuple[tuple[Gpu, GpuReading], ...]:
        """Return every GPU with what it said last, by the newest sample; empty when nobody knows."""
        oldest = self._clock() - self._spec.scrape_timeout - 2 * self._spec.sample_interval
        view = None if self._gpus is None else self._gpus.latest(oldest)
        return () if view is None else tuple(zip(view.gpus, view.readings, strict=True))

    def history(self) -> list[Report]:
        """Return what engines and routers said in the last 120 s, every five seconds, oldest first."""
        return list(self._history)

    def _report(self, now: float) -> Report:
        oldest = now - self._spec.scrape_timeout - 2 * self._spec.sample_interval
        return Report(
            sampled_at=now,
            interval=now - self._history[-1].sampled_at if self._history else 0.0,
            gpus=self._gpu_readings(oldest),
            nics=self._nic_counters(oldest),
            host=self._host.read(),
            engines=tuple(
                self._engine(watch.report(now, oldest)) for watch in self._watches.values()
            ),
            routers=tuple(watch.report(now, oldest) for watch in self._routers),
        )

    def _gpu_readings(self, oldest: float) -> tuple[GpuReading, ...]:
        view = None if self._gpus is None else self._gpus.latest(oldest)
        if view is None:
            self._view = replace(self._view, use=None)
            return (GpuReading(health=GpuHealth.ERROR),) * len(self._inventory.gpus)
        before, self._view = self._view, view
        if (view.gpus, view.driver_version) != (before.gpus, before.driver_version):
            self._take_gpus(view)
        return view.readings

    def _take_gpus(self, view: GpuView) -> None:
        """Let the inventory say which GPUs there are now."""
        known = {gpu.pci_address: gpu.nic_distances for gpu in self._inventory.gpus}
        self._inventory = replace(
            self._inventory,
            gpus=tuple(
                replace(gpu, nic_distances=known.get(gpu.pci_address, ())) for gpu in view.gpus
            ),
            driver_version=view.driver_version,
        )
        self._nic_probe.gpu_addresses = tuple(gpu.pci_address for gpu in view.gpus)

    def _take_versions(self) -> None:
        """Ask engines that answer for their version; let the inventory say what they told."""
        watches = self._watches.values()
        self._versions.look(w.target for w in watches if w.quality is ScrapeQuality.OK)
        told = self._versions.of_templates
        before = self._inventory.templates
        after = tuple(
            replace(one, engine_version=told.get(one.name, one.engine_version)) for one in before
        )
        if after != before:
            self._inventory = replace(self._inventory, templates=after)

    def _engine(self, report: EngineReport) -> EngineReport:
        use = (self._view.use or {}).get(report.instance_id)
        if use is None:
            return report
        return replace(
            report, gpu_memory_used_bytes=use.memory_bytes, gpu_sm_percent=use.sm_percent
        )

    def _nic_counters(self, oldest: float) -> tuple[NicCounters, ...]:
        sight = self._nics.latest(oldest)
        if sight is None:
            return (NicCounters(),) * len(self._inventory.nics)
        self._take_nics(sight)
        return tuple(
            self._nic_samplers.setdefault(_identity(nic), NicSampler()).fold(reading, limit)
            for nic, reading, limit in zip(
                sight.nics, sight.readings, sight.limits_bps, strict=True
            )
        )

    def _take_nics(self, sight: RdmaSight) -> None:
        """Let the inventory say which ports there are now, and how far from each GPU."""
        distances = [sight.distances.get(gpu.pci_address, ()) for gpu in self._inventory.gpus]
        known = [gpu.nic_distances for gpu in self._inventory.gpus]
        if sight.nics != self._inventory.nics or distances != known:
            if len(self._nic_samplers) > _MOST_SAMPLERS:
                present = set(map(_identity, sight.nics))
                self._nic_samplers = {
                    key: kept for key, kept in self._nic_samplers.items() if key in present
                }
            gpus = zip(self._inventory.gpus, distances, strict=True)
            self._inventory = replace(
                self._inventory,
                nics=sight.nics,
                gpus=tuple(replace(gpu, nic_distances=far) for gpu, far in gpus),
            )

    async def _find_devices(self) -> None:
        self._topology = TopologyWatch.of(self._spec, self._environ, self._moved)
        _, self._view, _ = await asyncio.gather(
            self._topology.start(PLACE_PATIENCE), self._open_gpus(), self._look_for_nics()
        )
        place = self._topology.found
        self._inventory = Inventory(
            gpus=self._view.gpus,
            cpu_count=host.cpu_count(),
            memory_bytes=host.memory_bytes(),
            topology=place.levels,
            topology_sources=place.sources,
            templates=tuple(
                TemplateInfo(
                    name,
                    template.role,
                    template.gpus,
                    template.engine,
                    template.role_switch is not None,
                    template.version,
                )
                for name, template in sorted(self._spec.templates.items())
            ),
            labels=self._spec.labels | within(self._spec.kubernetes, self._environ),
            taints=self._spec.taints,
            kernel=host.kernel(),
            driver_version=self._view.driver_version,
        )
        self._nic_probe.gpu_addresses = tuple(gpu.pci_address for gpu in self._inventory.gpus)
        # Once more, now that the GPUs are known: a first hello says how far the ports are.
        if not self._nics.busy:
            await self._look_for_nics()
        if (sight := self._nics.latest(-math.inf)) is not None:
            self._take_nics(sight)

    def _moved(self, place: Found) -> None:
        self._inventory = replace(
            self._inventory, topology=place.levels, topology_sources=place.sources
        )

    async def _open_gpus(self) -> GpuView:
        settings = self._spec.gpu
        if settings.source == "none":
            return GpuView()
        probe = GpuProbe(
            source=settings.source,
            library=settings.library,
            types=settings.types,
            seats=self._spec.state_dir / SEATS_FILE,
            clock=self._clock,
        )
        watch = self._gpu_watch = GpuWatch(probe)
        # Looked at even where there is no driver: it may come later than the agent.
        self._gpus = BlockingSource("gpu", self._gpu_worker, watch.look, self._clock)
        if not await self._opened("gpu", self._gpu_worker.call(watch.open)):
            return GpuView()
        return GpuView(probe.gpus, driver_version=probe.driver_version)

    async def _look_for_nics(self) -> None:
        await self._opened("rdma", self._nics.start())

    async def _opened(self, source: str, opening: asyncio.Future[Any]) -> bool:
        """Tell whether `opening` ended well in time. A host without the device is an answer."""
        await asyncio.wait([opening], timeout=OPEN_DEADLINE)
        if not opening.done():
            log.warning("source does not answer", source=source, seconds=OPEN_DEADLINE)
            return False
        if (error := opening.exception()) is not None:
            log.warning("source not available", source=source, error=str(error))
            return False
        return True


def _identity(nic: Nic) -> tuple[str, int, str]:
    """Return by what a port is known again after it was away."""
    return nic.name, nic.port, nic.node_guid
