"""Twins of agents: what they say of instances, commands and metrics, as the core's events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from heteroscale.words import Outcome, Role, ScrapeQuality
from heteroscale_coordinator.core.devices import NO_DEVICES, GpuFact
from heteroscale_coordinator.core.events import (
    CommandAnswered,
    CordonNode,
    InventoryLearned,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import (
    Command,
    EngineSample,
    Inventory,
    LatencySample,
    RankFact,
    TemplateFact,
)
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import Host
from heteroscale_simulator.world.devices import TwinDevices
from heteroscale_simulator.world.telemetry import COLUMNS, HARDWARE, Look, Telemetry
from heteroscale_simulator.world.twin import RUNNING, S, Twin
from heteroscale_simulator.world.yard import Yard

INCARNATION = 1
_PAIR = (Role.PREFILL, Role.DECODE)
_TTFT = COLUMNS.index("ttft_sum")
_HARDWARE = COLUMNS.index(HARDWARE[0])
_NO_RUNNERS: tuple[EngineSample, ...] = ()


def inventory(host: Host, services: Iterable[ServiceSpec], *, switches: bool = False) -> Inventory:
    """Return a host's slow facts; it allows every template of the services.

    ``switches``: engines of prefill and decode can change between the two.
    """
    templates = {
        role.template: TemplateFact(
            role.template, name, role.gpus, "simulated", switches and name in _PAIR
        )
        for spec in services
        for name, role in spec.roles.items()
    }
    return Inventory(
        hash=host.name,
        gpus=tuple(
            GpuFact(
                index,
                host.gpu_type,
                numa_node=host.neighbourhoods.get(index),
                nvlink_group=host.links.get(index),
            )
            for index in range(host.gpus)
        ),
        topology=host.topology,
        templates=tuple(templates.values()),
        taints=host.taints,
    )


def learned(
    host: Host, services: Iterable[ServiceSpec], *, switches: bool = False
) -> InventoryLearned:
    """Return what a host's agent says first."""
    return InventoryLearned(host.name, inventory(host, services, switches=switches))


def cordons(host: Host) -> Iterator[CordonNode]:
    """Yield what an operator of this fleet has cordoned: all that does not work."""
    if host.fault:
        yield CordonNode(f"fault-{host.name}", host.name, (), host.fault)
    elif host.broken:
        broken = tuple(sorted(host.broken))
        yield CordonNode(f"fault-{host.name}", host.name, broken, "does not work")


def facts(twin: Twin, now: float) -> Iterator[tuple[str, RankFact]]:
    """Yield (agent, fact) for each rank; rank 0 leads, the others follow it."""
    count = len(twin.order.posts)
    for rank, post in twin.posts():
        yield (
            post.host,
            RankFact(
                instance_id=twin.instance_id,
                service=twin.service,
                role=twin.role,
                state=twin.state,
                generation=twin.generation,
                rank=rank,
                rank_count=count,
                reason=twin.reason,
                gate_state=twin.gate,
                endpoint=f"http://{post.host}/{twin.instance_id}",
                group=twin.order.group,
                template=twin.order.template,
                gpu_indices=post.gpus,
                message=twin.message,
                terminating=twin.terminating,
                startup_time=twin.startup_time,
                state_age=now - twin.since,
            ),
        )


def changed(twin: Twin, now: float) -> Iterator[RankChanged]:
    """Yield each rank's agent's word that the instance changed."""
    for agent, fact in facts(twin, now):
        yield RankChanged(agent, fact)


def answer(command: Command, outcome: Outcome, message: str = "") -> CommandAnswered:
    """Return an agent's word on a command."""
    return CommandAnswered(command.agent_id, command.command_id, outcome, message)


@dataclass(slots=True)
class _Agent:
    host: str
    report: ReportReceived
    """The same object each time, with a new sequence: nobody keeps it, and thousands are sent."""


class Reporters:
    """All agents' reports. Agents are spread over the report interval, as they are in life."""

    def __init__(self, yard: Yard, telemetry: Mapping[str, Telemetry], offset: float) -> None:
        self._yard, self._telemetry, self._offset = yard, telemetry, offset
        rules = yard.fleet.rules
        self._interval = max(1, round(rules.report_interval))
        # A host without engines has nothing to say but that it is there.
        idle = rules.silent_after * 2 / 3
        self._idle_every = max(1, int(idle // self._interval)) * self._interval
        self._devices: dict[str, TwinDevices] = {}
        """Of the hosts that speak this second."""
        self._phases: list[list[_Agent]] = [[] for _ in range(self._interval)]
        for number, name in enumerate(yard.hosts):
            agent = _Agent(name, ReportReceived(name, INCARNATION, 0))
            self._phases[number % self._interval].append(agent)

    def second(self, second: int, now: float) -> list[ReportReceived]:
        """Return the reports of the agents whose turn it is."""
        idle_too = second % self._idle_every < self._interval
        due = self._phases[second % self._interval]
        on_host = self._yard.on_host
        speaking = [agent for agent in due if idle_too or on_host[agent.host]]
        self._devices.clear()
        samples = self._samples(speaking, now)
        for agent in speaking:
            agent.report.sequence += 1
            agent.report.engines = samples.get(agent.host, _NO_RUNNERS)
            agent.report.devices = self._devices.get(agent.host, NO_DEVICES)
        return [agent.report for agent in speaking]

    def _samples(
        self, speaking: Iterable[_Agent], now: float
    ) -> dict[str, tuple[EngineSample, ...]]:
        by_service: dict[str, list[Twin]] = {}
        found: dict[str, list[EngineSample]] = {}
        for agent in speaking:
            for twin in self._yard.on_host[agent.host].values():
                if twin.state in RUNNING:
                    by_service.setdefault(twin.service, []).append(twin)
                elif twin.state is S.LAUNCHING:
                    found.setdefault(agent.host, []).append(self._unheard(twin, now, missing=True))
        for service, twins in by_service.items():
            self._of_service(service, twins, now, found)
        return {host: tuple(samples) for host, samples in found.items()}

    def _of_service(
        self, service: str, twins: list[Twin], now: float, found: dict[str, list[EngineSample]]
    ) -> None:
        telemetry = self._telemetry[service]
        look, missed = telemetry.newest(now), telemetry.missed(len(twins))
        heard: list[Twin] = []
        for place, twin in enumerate(twins):
            known = look is not None and twin.instance_id in look.rows
            if known and (missed is None or not missed[place]):
                heard.append(twin)
            else:
                sample = self._unheard(twin, now, missing=not known)
                found.setdefault(twin.host, []).append(sample)
        if look is not None and heard:
            for twin, sample in zip(heard, self._heard(telemetry, look, heard), strict=True):
                found.setdefault(twin.host, []).append(sample)

    def _heard(self, telemetry: Telemetry, look: Look, heard: list[Twin]) -> Iterator[EngineSample]:
        at, ok = self._offset + look.at, ScrapeQuality.OK
        rows = telemetry.told(look, [twin.instance_id for twin in heard]).tolist()
        for twin, row in zip(heard, rows, strict=True):
            ttft = LatencySample(row[_TTFT], row[_TTFT + 1])
            tbt = LatencySample(row[_TTFT + 2], row[_TTFT + 3])
            self._see(twin, row)
            yield EngineSample._make((twin.instance_id, ok, at, *row[:_TTFT], ttft, tbt, None))

    def _see(self, twin: Twin, row: list[float]) -> None:
        """Note what the GPUs of rank 0 say; those of other ranks do the same, and say nothing."""
        devices = self._devices.get(twin.host)
        if devices is None:
            devices = self._devices[twin.host] = TwinDevices(self._yard.hosts[twin.host].gpus)
        busy, active, share = row[_HARDWARE : _HARDWARE + len(HARDWARE)]
        devices.see(twin.order.posts[0].gpus, (busy, active, share))

    def _unheard(self, twin: Twin, now: float, *, missing: bool) -> EngineSample:
        quality = ScrapeQuality.MISSING if missing else ScrapeQuality.STALE
        return EngineSample(twin.instance_id, quality, self._offset + now)
