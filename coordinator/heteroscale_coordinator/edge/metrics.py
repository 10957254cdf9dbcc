"""What Prometheus is told: pushed by the loop where time passes, read from its state at a scrape.

A value that is unknown has no series; it is never zero.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain, permutations, repeat

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.devices import NO_DEVICES
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.model import Action, Instance, Service
from heteroscale_coordinator.core.policy.flap import factor_in, factor_out
from heteroscale_coordinator.core.policy.give import HOUR
from heteroscale_coordinator.core.state import Agent, State
from heteroscale_coordinator.core.topology import SubgroupClass
from heteroscale_coordinator.edge.others import AskedCollector
from heteroscale_coordinator.edge.ports import Decisions, Loop
from heteroscale_coordinator.edge.room_metrics import room_metrics
from heteroscale_coordinator.edge.sub_cluster_metrics import sub_cluster_metrics

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OWN_FAMILIES = ("demand", "supply")
"""Signals ``<role>_<name>`` that have a family of their own beside the general one."""


class Metrics:
    """Counts what the loop tells (see ``ports.Observer``), in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._turns = Histogram(
            "heteroscale_turn_seconds",
            "Duration of a turn, its commit left out.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._commits = Histogram(
            "heteroscale_store_commit_seconds",
            "Duration of a commit, failed ones too.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "heteroscale_store_commit_failures", "Commits that failed.", registry=self.registry
        )
        self._reports = Counter(
            "heteroscale_reports_received", "Reports taken in.", registry=self.registry
        )
        self._coalesced = Counter(
            "heteroscale_reports_coalesced",
            "Of the reports taken in, those merged into a newer one of their agent on the way.",
            registry=self.registry,
        )
        self._delays = DelayCollector(
            "heteroscale_report_delay_seconds",
            "From reading a report off its stream to its being in the state; merged ones count once, "
            "from the first.",
        )
        self.registry.register(self._delays)
        self._decisions = Counter(
            "heteroscale_decisions",
            "Decisions by service and action; acted=no: advisory, paused or being deleted.",
            ("service", "action", "acted"),
            registry=self.registry,
        )
        self._commands = Counter(
            "heteroscale_commands",
            "Commands by verb and the state they came to; open: issued.",
            ("verb", "outcome"),
            registry=self.registry,
        )

    def watch(self, loop: Loop, decisions: Decisions) -> None:
        """Read gauges from the loop's state at every scrape from now on."""
        self.registry.register(StateCollector(loop, decisions))
        self.registry.register(AskedCollector(loop))

    def turn(self, seconds: float) -> None:
        """Record a turn."""
        self._turns.observe(seconds)

    def commit(self, seconds: float, *, failed: bool = False) -> None:
        """Record a commit."""
        self._commits.observe(seconds)
        if failed:
            self._failures.inc()

    def committed(self, changes: Changes) -> None:
        """Count decisions and commands."""
        for decision in changes.decisions:
            acted = "no" if decision.advisory else "yes"
            self._decisions.labels(decision.service, decision.action.value, acted).inc()
        for command in changes.commands.values():
            if command is not None:
                self._commands.labels(command.verb.value, command.state.value).inc()
        for name, service in changes.services.items():
            if service is None:
                self._forget(name)

    def _forget(self, service: str) -> None:
        for action in Action:
            for acted in ("yes", "no"):
                with suppress(KeyError):
                    self._decisions.remove(service, action.value, acted)

    def reports(self, delays: Sequence[float], coalesced: int) -> None:
        """Count a turn's reports and note how long each was on its way, in seconds."""
        if delays or coalesced:
            self._reports.inc(len(delays) + coalesced)
            self._coalesced.inc(coalesced)
            self._delays.observe(delays)


class DelayCollector(Collector):
    """A histogram that takes a whole turn's values at once: thousands of reports come a second."""

    BOUNDS = (
        0.001,
        0.002,
        0.005,
        0.0075,
        0.01,
        0.015,
        0.02,
        0.03,
        0.04,
        0.05,
        0.075,
        0.1,
        0.25,
        1.0,
    )

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._counts = [0] * (len(self.BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Take in values, in seconds."""
        for value in values:
            self._counts[bisect_left(self.BOUNDS, value)] += 1
        self._sum += sum(values)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        names = (*(str(bound) for bound in self.BOUNDS), "+Inf")
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class StateCollector(Collector):
    """Gauges of services, instances and agents. May run in a thread: it reads frozen values."""

    def __init__(self, loop: Loop, decisions: Decisions) -> None:
        self._loop = loop
        self._decisions = decisions

    def describe(self) -> list[Metric]:
        """Return nothing: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families as of now."""
        status, state = self._loop.status(), self._loop.state
        # Each list is made in one step of the interpreter, so no turn changes it half-way.
        services = list(state.services.values())
        instances = list(state.instances.values())
        agents = list(state.agents.values())
        yield _single("ready", "1: turns are taken and committed.", not status.not_ready)
        yield _single("epoch", "The epoch led with.", status.epoch)
        yield _single("partition", "1: many agents are silent at once.", bool(state.partition))
        yield _agents(agents)
        yield from _devices(agents)
        yield from room_metrics(state.seen.fragments)
        yield from sub_cluster_metrics(agents, services, state.silent_sub_clusters, state.turned_at)
        yield _class_changes(state)
        yield _instances(instances)
        yield from _services(services)
        yield from _stability(services, state.turned_at)
        yield from _ratio(services, instances)
        yield _targets(services)
        yield from self._signals(services)

    def _signals(self, services: list[Service]) -> Iterator[Metric]:
        every = _gauge("signal", "A signal of the last decision.", ("service", "signal", "unit"))
        own = {
            name: _gauge(
                f"{name}_tokens_per_second", f"The {name} last decided on.", ("service", "role")
            )
            for name in _OWN_FAMILIES
        }
        qualities = _gauge(
            "signals", "Signals of the last decision by quality.", ("service", "quality")
        )
        for service in services:
            decision = self._decisions.latest(service.name)
            signals = decision.signals if decision else ()
            for quality, number in Tally(one.quality for one in signals).items():
                qualities.add_metric((service.name, quality), number)
            for name, value, unit, *_ in signals:
                if value is None:
                    continue
                every.add_metric((service.name, name, unit), value)
                role, _, kind = name.partition("_")
                if kind in own:
                    own[kind].add_metric((service.name, role), value)
        return iter((every, qualities, *own.values()))


def _gauge(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"heteroscale_{name}", text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"heteroscale_{name}", text, value=float(value))


def _agents(agents: list[Agent]) -> Metric:
    family = _gauge("agents", "Agents by what is heard of them.", ("state",))
    tally = Tally(_heard(agent) for agent in agents)
    for word in ("connected", "disconnected", "silent", "lost"):
        family.add_metric((word,), tally[word])
    return family


def _devices(agents: list[Agent]) -> Iterator[Metric]:
    """Count GPUs and RDMA ports over the fleet; of single nodes the operator's service tells."""
    gpus = _gauge("gpus", "GPUs by type and whether their driver reaches them.", ("type", "state"))
    ports = _gauge("rdma_ports", "RDMA ports by state.", ("state",))
    by_gpu: Tally[tuple[str, str]] = Tally()
    by_port: Tally[str] = Tally()
    inner = Tally((a.within, gpu.type) for a in agents if a.within for gpu in a.inventory.gpus)
    for agent in agents:
        seen = NO_DEVICES if agent.silent else agent.devices
        healthy = chain(seen.healthy, repeat(None))
        for gpu, well in zip(agent.inventory.gpus, healthy, strict=False):
            if inner[agent.agent_id, gpu.type] > 0:
                inner[agent.agent_id, gpu.type] -= 1  # an agent within the node tells more of it
                continue
            by_gpu[gpu.type, "unknown" if well is None else "ok" if well else "sick"] += 1
        up, down = seen.ports_up, seen.ports_down
        unknown = max(0, len(agent.inventory.nics) - up - down)
        by_port.update({"active": up, "down": down, "unknown": unknown})
    for gpu_type in sorted({gpu_type for gpu_type, _ in by_gpu}):
        for state in ("ok", "sick", "unknown"):
            gpus.add_metric((gpu_type, state), by_gpu[gpu_type, state])
    for state in ("active", "down", "unknown"):
        ports.add_metric((state,), by_port[state])
    return iter((gpus, ports))


def _heard(agent: Agent) -> str:
    if agent.lost:
        return "lost"
    if agent.silent:
        return "silent"
    return "connected" if agent.connected else "disconnected"


def _instances(instances: list[Instance]) -> Metric:
    family = _gauge("instances", "Instances by state.", ("service", "role", "state"))
    tally = Tally((i.service, i.role, i.state) for i in instances)
    for service, role in sorted({(service, role) for service, role, _ in tally}):
        for state in InstanceState:
            count = tally[service, role, state]
            family.add_metric((service, role.value, state.value), count)
    return family


def _services(services: list[Service]) -> Iterator[Metric]:
    wanted = _gauge("wanted_instances", "Instances wanted now.", ("service", "role"))
    paused = _gauge("paused", "1: decides but does not act.", ("service",))
    quarantined = _gauge("quarantined", "1: left alone after an error of ours.", ("service",))
    for service in services:
        for role, count in service.memory.wanted.items():
            wanted.add_metric((service.name, role.value), count)
        paused.add_metric((service.name,), bool(service.paused))
        quarantined.add_metric((service.name,), bool(service.quarantine))
    return iter((wanted, paused, quarantined))


def _class_changes(state: State) -> Metric:
    """Count the S1 domains whose RDMA class became another, from the first: a rise from 0 is seen."""
    family = CounterMetricFamily(
        "heteroscale_rdma_class_changes",
        "S1 domains whose RDMA subgroup class changed while this coordinator looked.",
        labels=("before", "after"),
    )
    counts = state.seen.change_counts
    for before, after in permutations(SubgroupClass, 2):
        names = (before.name.lower(), after.name.lower())
        family.add_metric(names, counts[before, after])
    return family


def _targets(services: list[Service]) -> Metric:
    """Tell which targets no longer fit what runs: another engine or model, or a GPU type without one."""
    stale = _gauge(
        "target_stale", "1: what the target was set for has changed.", ("service", "role")
    )
    for service in services:
        for role in service.spec.roles:
            stale.add_metric((service.name, role.value), role in service.memory.learning.stale)
    return stale


def _stability(services: list[Service], now: float) -> Iterator[Metric]:
    """Tell what the flap guard and the circuit breaker know; a closed breaker is not counted."""
    turns = CounterMetricFamily(
        "heteroscale_reversals",
        "Changes of the wanted counts the other way so soon after the last that it is a reversal.",
        labels=("service",),
    )
    factors = _gauge(
        "cooldown_factor", "What a cooldown is multiplied by.", ("service", "cooldown")
    )
    failures = _gauge("launch_failures", "Launches failed in a row, anywhere.", ("service",))
    breakers = _gauge(
        "launch_breakers", "Nodes and GPU types closed to launches.", ("service", "kind", "state")
    )
    unplaced = _gauge("unplaced_instances", "Wanted, and without a place.", ("service", "role"))
    given = _gauge(
        "given_gpus", "GPUs given to services of higher priority within the hour.", ("service",)
    )
    for service in services:
        memory, policy = service.memory, service.spec.policy
        kept = memory.stability
        turns.add_metric((service.name,), kept.reversal_count)
        factors.add_metric((service.name, "in"), factor_in(memory, policy, now).value)
        factors.add_metric((service.name, "out"), factor_out(memory, policy, now).value)
        failures.add_metric((service.name,), memory.launch_failures)
        for kind, known in (("node", kept.nodes), ("gpu_type", kept.types)):
            untils = [one.until for one in known.values() if one.until is not None]
            still = sum(until > now for until in untils)
            breakers.add_metric((service.name, kind, "open"), still)
            breakers.add_metric((service.name, kind, "half_open"), len(untils) - still)
        for role in service.spec.roles:
            lacking = kept.unplaced.delta.get(role, 0) if kept.unplaced else 0
            unplaced.add_metric((service.name, role.value), lacking)
        gpus = sum(gpus for at, gpus in kept.given if now - at < HOUR)
        given.add_metric((service.name,), gpus)
    return iter((turns, factors, failures, breakers, unplaced, given))


def _ratio(services: list[Service], instances: list[Instance]) -> Iterator[Metric]:
    outer = _gauge("ratio", "Prefill per decode instance, both in service.", ("service",))
    inner = _gauge("inner_ratio", "Attention per ffn instance, both in service.", ("service",))
    serving = Tally((i.service, i.role) for i in instances if i.state is InstanceState.IN_SERVICE)
    for service in services:
        attention = serving[service.name, Role.ATTENTION]
        if decodes := serving[service.name, Role.DECODE]:
            prefills = serving[service.name, Role.PREFILL] + attention
            outer.add_metric((service.name,), prefills / decodes)
        if ffn := serving[service.name, Role.FFN]:
            inner.add_metric((service.name,), attention / ffn)
    yield from (outer, inner)
