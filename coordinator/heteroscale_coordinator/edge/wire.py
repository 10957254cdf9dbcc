"""What agents say, from the wire into the core's values. The other direction is ``orders``.

Nothing an agent can send raises here but bytes that are no message at all: unknown enums, NaN,
negative and absurd numbers are unknown, long texts and lists are cut, entries that cannot be meant
are dropped. Reading a report is the coordinator's hot path; it is written flat for that reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration

from heteroscale.convert import from_wire
from heteroscale.taints import Taints, parse_taint
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import (
    TOPOLOGY_LEVELS,
    GateState,
    InstanceState,
    Outcome,
    Role,
    ScrapeQuality,
    WithdrawReason,
)
from heteroscale_coordinator.core.devices import GpuFact, NicFact
from heteroscale_coordinator.core.events import (
    AgentConnected,
    CommandAnswered,
    RankChanged,
    ReportReceived,
)
from heteroscale_coordinator.core.model import (
    EngineSample,
    Inventory,
    LatencySample,
    RankFact,
    RouterSample,
    StandsFor,
    TemplateFact,
)
from heteroscale_coordinator.edge.devices import MAX_GPUS, MAX_NICS, devices, distances, nic_fact

READ_AS = 1
"""Grows by one whenever more of an inventory is read: stored ones of before are asked for anew."""
MAX_ENGINES = 128
MAX_ROUTERS = 32
MAX_INSTANCES = 1_000
MAX_HISTORY = 256
MAX_RESULTS = 1_000
MAX_ENTRIES = 64
MAX_BUCKETS = 24
MAX_NAME = 253
MAX_PORT = 65_535
MAX_TEXT = 1_000
MAX_GENERATION = 1 << 53
HISTORY_SPACING = 2.0
"""Samples of a hello's history closer than this add nothing: tracks keep them seconds apart."""
OLDEST = 3_600.0
"""A reading older than this counts as this old: too old for any window."""

YEAR = 365 * 86_400.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_OK = agent_pb2.SCRAPE_QUALITY_OK
_STALE = agent_pb2.SCRAPE_QUALITY_STALE
_COUNT = 1e16
"""No counter of tokens or requests gets here; above it doubles no longer count by one."""
_GAUGE = 1e9
_PERCENT = 100.0
_FIELDS = (
    *((name, _COUNT) for name in ("generation_tokens", "prompt_tokens", "computed_prompt_tokens")),
    *((name, _COUNT) for name in ("requests_finished", "requests_aborted")),
    *((name, _GAUGE) for name in ("running", "waiting", "transferring")),
    ("kv_usage", 1.0),
)


def is_id(text: str) -> bool:
    """Return whether ``text`` can name an agent or an instance."""
    return _ID.fullmatch(text) is not None


def age_of(value: Duration, limit: float = OLDEST) -> float:
    """Return a wire duration in seconds, 0 to ``limit``."""
    age = value.seconds + value.nanos * 1e-9
    return min(age, limit) if age > 0 else 0.0


# ---- reports: hot ------------------------------------------------------------------------------


def report(
    agent_id: str, incarnation: int, sequence: int, message: agent_pb2.Report, received: float
) -> ReportReceived:
    """Return a report; ages count back from ``received``, the coordinator's time of receipt."""
    engines = samples(message, received)
    seen = devices(message)
    routers = router_samples(message, received) if message.routers else ()
    return ReportReceived(agent_id, incarnation, sequence, engines, seen, routers, received)


def samples(message: agent_pb2.Report, received: float) -> tuple[EngineSample, ...]:
    """Return the engines of a report."""
    sampled_at = received - age_of(message.sampled_ago)
    engines: Iterable[agent_pb2.EngineReading] = message.engines
    if len(message.engines) > MAX_ENGINES:
        engines = message.engines[:MAX_ENGINES]
    return tuple([_sample(engine, sampled_at) for engine in engines if engine.instance_id])


def _sample(reading: Any, sampled_at: float) -> EngineSample:
    """Read an ``EngineReading``; its fields are gone over by name, which stubs cannot type."""
    has = reading.HasField
    # Asking for presence costs as much as the value, and only a zero leaves a doubt.
    values = [
        (value if value <= limit else None)
        if (value := getattr(reading, name)) > 0.0
        else (value if value == 0.0 and has(name) else None)
        for name, limit in _FIELDS
    ]
    return EngineSample._make(
        (
            reading.instance_id[:MAX_NAME],
            _quality(reading.quality),
            sampled_at - age_of(reading.age),
            *values,
            _latency(reading.time_to_first_token) if has("time_to_first_token") else None,
            _latency(reading.time_between_tokens) if has("time_between_tokens") else None,
            _told(reading, "gpu_sm_percent", _PERCENT),
        )
    )


def router_samples(message: agent_pb2.Report, received: float) -> tuple[RouterSample, ...]:
    """Return the routers of a report."""
    sampled_at = received - age_of(message.sampled_ago)
    found = message.routers[:MAX_ROUTERS]
    return tuple(_router(one, sampled_at) for one in found if one.service and one.url)


def _router(reading: agent_pb2.RouterReading, sampled_at: float) -> RouterSample:
    has = reading.HasField
    return RouterSample(
        name=text(reading.name, MAX_NAME),
        service=_shared(reading.service),
        url=_shared(reading.url),
        quality=_quality(reading.quality),
        at=sampled_at - age_of(reading.age),
        requests_finished=_told(reading, "requests_finished", _COUNT),
        requests_failed=_told(reading, "requests_failed", _COUNT),
        requests_rejected=_told(reading, "requests_rejected", _COUNT),
        running=_told(reading, "running", _GAUGE),
        waiting=_told(reading, "waiting", _GAUGE),
        ttft=_latency(reading.time_to_first_token) if has("time_to_first_token") else None,
        tbt=_latency(reading.time_between_tokens) if has("time_between_tokens") else None,
    )


def _told(reading: Any, name: str, limit: float) -> float | None:
    """Return a value that is there and makes sense."""
    value: float = getattr(reading, name)
    return value if reading.HasField(name) and 0.0 <= value <= limit else None


def _quality(number: int) -> ScrapeQuality:
    if number == _OK:
        return ScrapeQuality.OK
    return ScrapeQuality.STALE if number == _STALE else ScrapeQuality.MISSING


def _latency(message: agent_pb2.Latency) -> LatencySample | None:
    total, count = message.sum_seconds, message.count
    if not (0.0 <= total <= _COUNT and 0.0 <= count <= _COUNT):
        return None
    return LatencySample(total, count, tuple(message.bucket_deltas[:MAX_BUCKETS]))


def thinned(reports: Iterable[agent_pb2.Report]) -> list[agent_pb2.Report]:
    """Return a hello's last reports, oldest first, no closer together than tracks can keep."""
    aged = sorted(
        ((age_of(r.sampled_ago), r) for r in list(reports)[-MAX_HISTORY:]),
        key=lambda pair: -pair[0],
    )
    kept: list[agent_pb2.Report] = []
    last = OLDEST + HISTORY_SPACING
    for place, (age, message) in enumerate(aged):
        if last - age >= HISTORY_SPACING or place == len(aged) - 1:
            kept.append(message)
            last = age
    return kept


def agent_connected(hello: agent_pb2.Hello, received: float) -> AgentConnected:
    """Return the event that a hello is; its id has been checked."""
    reports = thinned(hello.history)
    return AgentConnected(
        agent_id=hello.agent_id,
        incarnation=hello.incarnation,
        hostname=text(hello.hostname, MAX_NAME),
        facts=rank_facts(hello.instances),
        history=tuple(sample for one in reports for sample in samples(one, received)),
        router_history=tuple(s for one in reports for s in router_samples(one, received)),
        inventory_hash=text(hello.inventory_hash, MAX_NAME),
        version=text(hello.agent_version, MAX_NAME),
        advertise_host=text(hello.advertise_host, MAX_NAME),
        stands_for=_stands_for(hello),
    )


def _stands_for(hello: agent_pb2.Hello) -> StandsFor | None:
    claim = hello.stands_for
    within = text(claim.within, MAX_NAME)
    if not hello.HasField("stands_for") or not is_id(claim.instance_id) or not within:
        return None
    return StandsFor(claim.instance_id, min(claim.rank, MAX_ENTRIES), within)


# ---- facts: on change --------------------------------------------------------------------------


def rank_fact(message: types_pb2.InstanceStatus) -> RankFact | None:
    """Return what an agent says of one rank; None when it names no instance, role or state."""
    role = from_wire(Role, message.role)
    state = from_wire(InstanceState, message.state)
    if role is None or state is None or not is_id(message.instance_id):
        return None
    count = max(1, min(message.rank_count, MAX_ENTRIES))
    startup = age_of(message.startup_time, YEAR) if message.HasField("startup_time") else None
    return RankFact(
        instance_id=message.instance_id,
        service=_shared(message.service),
        role=role,
        state=state,
        generation=min(message.generation, MAX_GENERATION),
        rank=min(message.rank, count - 1),
        rank_count=count,
        reason=from_wire(WithdrawReason, message.withdraw_reason),
        gate_state=from_wire(GateState, message.gate_state) or GateState.CLOSING,
        endpoint=text(message.endpoint, MAX_NAME),
        group=_shared(message.group),
        template=_shared(message.template),
        gpu_indices=tuple(i for i in message.gpu_indices[:MAX_GPUS] if i < MAX_GPUS),
        message=text(message.message),
        terminating=message.terminating,
        startup_time=startup,
        state_age=age_of(message.state_age, YEAR),
        origin=text(message.origin, MAX_NAME),
    )


def rank_facts(messages: Iterable[types_pb2.InstanceStatus]) -> tuple[RankFact, ...]:
    """Return all that can be read of what runs on a host."""
    return tuple(fact for m in list(messages)[:MAX_INSTANCES] if (fact := rank_fact(m)) is not None)


def rank_changed(agent_id: str, message: agent_pb2.InstanceEvent) -> RankChanged | None:
    """Return an instance event; None when it says nothing of an instance."""
    fact = rank_fact(message.status)
    return None if fact is None else RankChanged(agent_id, fact, text(message.cause, MAX_NAME))


def command_answered(agent_id: str, message: agent_pb2.CommandResult) -> CommandAnswered | None:
    """Return an agent's word on a command; None without a command or a known outcome."""
    outcome = from_wire(Outcome, message.outcome)
    if outcome is None or not is_id(message.command_id):
        return None
    fact = rank_fact(message.status) if message.HasField("status") else None
    return CommandAnswered(agent_id, message.command_id, outcome, text(message.message), fact)


def inventory(message: agent_pb2.Inventory) -> Inventory:
    """Return the slow facts of a host; doubles and nameless entries are left out."""
    gpus = {
        gpu.index: GpuFact(
            gpu.index,
            _shared(gpu.type or gpu.name),
            min(gpu.memory_bytes, MAX_GENERATION),
            text(gpu.uuid, MAX_NAME),
            _shared(gpu.vendor),
            _shared(gpu.partition),
            _shared(gpu.parent_uuid),
            distances(tuple(gpu.nic_distances[:MAX_NICS])),
            gpu.numa_node if gpu.numa_node >= 0 else None,
            min(gpu.nvlink_group, MAX_GPUS) if gpu.HasField("nvlink_group") else None,
        )
        for gpu in reversed(message.gpus[:MAX_GPUS])
        if gpu.index < MAX_GPUS
    }
    templates = {fact.name: fact for m in message.templates[:MAX_RESULTS] if (fact := _template(m))}
    return Inventory(
        hash=text(message.inventory_hash, MAX_NAME),
        gpus=tuple(reversed(gpus.values())),
        nics=tuple(map(_nic, message.nics[:MAX_NICS])),
        topology=_strings({k: v for k, v in message.topology.items() if k in TOPOLOGY_LEVELS}),
        templates=tuple(templates.values()),
        labels=_strings(message.labels),
        topology_sources=_strings(
            {k: v for k, v in message.topology_sources.items() if k in TOPOLOGY_LEVELS}
        ),
        taints=_taints(tuple(message.taints[:MAX_ENTRIES])),
        read_as=READ_AS,
    )


@lru_cache(maxsize=4096)
def _taints(texts: tuple[str, ...]) -> Taints:
    """Return taints in order, none twice; what is none is left out, as by Kubernetes."""
    found = set()
    for one in texts:
        with suppress(ValueError):
            found.add(parse_taint(one))
    return tuple(sorted(found))


def _nic(message: agent_pb2.Nic) -> NicFact:
    return nic_fact(
        name=_shared(message.name),
        port=min(message.port, MAX_PORT),
        rate_bps=message.rate_bps,
        rail=min(message.rail, MAX_PORT) if message.HasField("rail") else None,
        link_layer=_shared(message.link_layer),
        netdev=_shared(message.netdev),
        numa_node=message.numa_node,
    )


def _template(message: agent_pb2.LaunchTemplate) -> TemplateFact | None:
    role = from_wire(Role, message.role)
    if role is None or not message.name:
        return None
    return TemplateFact(
        _shared(message.name),
        role,
        min(message.gpus, MAX_GPUS),
        _shared(message.engine),
        message.switches_role,
        _shared(message.engine_version),
    )


def _strings(values: Mapping[str, str]) -> dict[str, str]:
    kept = sorted(values.items())[:MAX_ENTRIES]
    return {_shared(key): _shared(value) for key, value in kept}


def _shared(value: str) -> str:
    """Return a name that many hosts say, cut, and kept once for all of them."""
    return sys.intern(text(value, MAX_NAME))


def text(value: str, limit: int = MAX_TEXT) -> str:
    """Return ``value`` cut to ``limit`` characters, without NUL, which databases refuse."""
    return value[:limit].replace("\0", "")
