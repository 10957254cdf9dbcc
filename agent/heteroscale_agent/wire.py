"""The agent's values ↔ the wire. The only room here, with ``link``, that knows both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.message import Message

from heteroscale.convert import duration, from_wire, seconds, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import Role, WithdrawReason
from heteroscale_agent.identity import Identity
from heteroscale_agent.model import (
    Action,
    Command,
    CommandResult,
    Drain,
    EngineReport,
    Gate,
    InstanceEvent,
    InstanceStatus,
    Inventory,
    LatencyCounters,
    Launch,
    Reinstate,
    Report,
    SwitchRole,
    Terminate,
    Withdraw,
)

HISTORY_SPACING = 5.0
"""Seconds between the samples of a hello's history; windows need no closer ones."""

_ENGINE_VALUES = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted", "running", "waiting", "transferring", "kv_usage"),
)
_MIB = 1024 * 1024
_MOST_32 = (1 << 31) - 1
_MOST_64 = (1 << 63) - 1


class WireError(ValueError):
    """What came over the wire makes no sense; the text goes back as the refusal."""


# ---- up ------------------------------------------------------------------------------------------


def hello(
    identity: Identity,
    *,
    inventory: Inventory,
    instances: Sequence[InstanceStatus],
    history: Sequence[Report],
    results: Sequence[CommandResult],
    now: float,
    version: str,
    cluster_id: str,
    highest_epoch: int,
    advertise_host: str,
) -> agent_pb2.Hello:
    """Return the first message of a stream."""
    return agent_pb2.Hello(
        agent_id=identity.agent_id,
        incarnation=identity.incarnation,
        process_token=identity.process_token,
        boot_id=identity.boot_id,
        hostname=identity.hostname,
        agent_version=version,
        cluster_id=cluster_id,
        highest_epoch=highest_epoch,
        inventory_hash=inventory_message(inventory).inventory_hash,
        instances=[status(one) for one in instances],
        history=[report(one, now, engines_only=True) for one in thin(history)],
        unacknowledged_results=[result(one) for one in results],
        advertise_host=advertise_host,
    )


def thin(history: Sequence[Report]) -> list[Report]:
    """Return reports at least ``HISTORY_SPACING`` apart, the newest among them, oldest first."""
    kept: list[Report] = []
    for one in reversed(history):
        if not kept or kept[-1].sampled_at - one.sampled_at >= HISTORY_SPACING:
            kept.append(one)
    return kept[::-1]


def inventory_message(inventory: Inventory) -> agent_pb2.Inventory:
    """Return the whole inventory with its hash."""
    message = agent_pb2.Inventory(
        cpu_count=inventory.cpu_count,
        memory_bytes=inventory.memory_bytes,
        topology=inventory.topology,
        labels=inventory.labels,
        kernel=inventory.kernel,
        driver_version=inventory.driver_version,
    )
    for gpu in inventory.gpus:
        message.gpus.add(
            index=gpu.index,
            uuid=gpu.uuid,
            name=gpu.name,
            type=gpu.type,
            memory_bytes=gpu.memory_bytes,
            pci_address=gpu.pci_address,
            numa_node=-1 if gpu.numa_node is None else gpu.numa_node,
        )
    for nic in inventory.nics:
        message.nics.add(
            name=nic.name,
            port=nic.port,
            pci_address=nic.pci_address,
            numa_node=-1 if nic.numa_node is None else nic.numa_node,
            rate_bps=nic.rate_bps or 0,
            link_layer=nic.link_layer,
            hca_type=nic.hca_type,
            firmware=nic.firmware,
        )
    for template in inventory.templates:
        message.templates.add(
            name=template.name,
            role=to_wire(template.role),
            gpus=template.gpus,
            engine=template.engine,
        )
    message.inventory_hash = _hash(message)
    return message


def _hash(message: Message) -> str:
    return hashlib.blake2b(
        message.SerializeToString(deterministic=True), digest_size=12
    ).hexdigest()


def report(one: Report, now: float, *, engines_only: bool = False) -> agent_pb2.Report:
    """Return a report as it is at ``now`` on the agent's clock."""
    message = agent_pb2.Report(
        sampled_ago=duration(max(0.0, now - one.sampled_at)),
        interval=duration(one.interval),
        engines=[_engine(engine) for engine in one.engines],
    )
    if engines_only:
        return message
    _fill_gpus(message.gpus, one)
    for nic in one.nics:
        message.nics.received_octets.append(_or_unknown(nic.received_octets, _MOST_64))
        message.nics.sent_octets.append(_or_unknown(nic.sent_octets, _MOST_64))
        message.nics.errors.append(_or_unknown(nic.errors, _MOST_64))
        message.nics.active.append(-1 if nic.active is None else int(nic.active))
    host = one.host
    if host.cpu_percent is not None:
        message.host.cpu_percent = host.cpu_percent
    if host.memory_used_bytes is not None:
        message.host.memory_used_bytes = host.memory_used_bytes
    if host.load_1m is not None:
        message.host.load_1m = host.load_1m
    return message


def _fill_gpus(columns: agent_pb2.GpuReadings, one: Report) -> None:
    for gpu in one.gpus:
        memory = gpu.memory_used_bytes
        columns.utilization_percent.append(_or_unknown(gpu.utilization_percent))
        columns.memory_utilization_percent.append(_or_unknown(gpu.memory_utilization_percent))
        columns.memory_used_mib.append(_or_unknown(None if memory is None else memory // _MIB))
        columns.power_watts.append(_or_unknown(gpu.power_watts))
        columns.temperature_celsius.append(_or_unknown(gpu.temperature_celsius))
        columns.ecc_uncorrected.append(_or_unknown(gpu.ecc_uncorrected))
        columns.process_count.append(_or_unknown(gpu.process_count))
        columns.health.append(agent_pb2.GpuHealth.ValueType(to_wire(gpu.health)))
    # A column that no GPU here supports is left out whole.
    if any(gpu.sm_activity_percent is not None for gpu in one.gpus):
        columns.sm_activity_percent.extend(_or_unknown(g.sm_activity_percent) for g in one.gpus)


def _or_unknown(value: float | None, most: int = _MOST_32) -> int:
    """Return a column's entry; NaN and what a column cannot hold is unknown too."""
    return round(value) if value is not None and 0 <= value <= most else -1


def _engine(engine: EngineReport) -> agent_pb2.EngineReading:
    message = agent_pb2.EngineReading(
        instance_id=engine.instance_id,
        quality=agent_pb2.ScrapeQuality.ValueType(to_wire(engine.quality)),
        age=duration(engine.age),
    )
    for name in _ENGINE_VALUES:
        value = getattr(engine, name)
        if value is not None:
            setattr(message, name, value)
    _fill_latency(message.time_to_first_token, engine.time_to_first_token)
    _fill_latency(message.time_between_tokens, engine.time_between_tokens)
    return message


def _fill_latency(message: agent_pb2.Latency, latency: LatencyCounters | None) -> None:
    if latency is None:
        return
    message.sum_seconds = latency.sum_seconds
    message.count = latency.count
    deltas = [min(delta, _MOST_32) for delta in latency.bucket_deltas]
    while deltas and not deltas[-1]:
        deltas.pop()
    message.bucket_deltas.extend(deltas)


def status(one: InstanceStatus) -> types_pb2.InstanceStatus:
    """Return one rank's status."""
    message = types_pb2.InstanceStatus(
        instance_id=one.instance_id,
        service=one.service,
        role=types_pb2.Role.ValueType(to_wire(one.role)),
        rank=one.rank,
        rank_count=one.rank_count,
        generation=one.generation,
        state=types_pb2.InstanceState.ValueType(to_wire(one.state)),
        withdraw_reason=types_pb2.WithdrawReason.ValueType(to_wire(one.withdraw_reason)),
        gate_state=types_pb2.GateState.ValueType(to_wire(one.gate_state)),
        endpoint=one.endpoint,
        group=one.group,
        template=one.template,
        gpu_indices=one.gpu_indices,
        pid=one.pid,
        state_age=duration(max(0.0, one.state_age)),
        message=one.message,
        terminating=one.terminating,
        adopted=one.adopted,
        exit_code=one.exit_code,
        gate=types_pb2.Gate(kind=one.gate.kind, routers=one.gate.routers, options=one.gate.options),
        origin=one.origin,
    )
    if one.lease_remaining is not None:
        message.lease_remaining.CopyFrom(duration(max(0.0, one.lease_remaining)))
    if one.startup_time is not None:
        message.startup_time.CopyFrom(duration(one.startup_time))
    return message


def event(one: InstanceEvent) -> agent_pb2.InstanceEvent:
    """Return an instance event."""
    return agent_pb2.InstanceEvent(status=status(one.status), cause=one.cause)


def result(one: CommandResult) -> agent_pb2.CommandResult:
    """Return a command's result."""
    message = agent_pb2.CommandResult(
        command_id=one.command_id,
        outcome=agent_pb2.CommandResult.Outcome.ValueType(to_wire(one.outcome)),
        message=one.message,
    )
    if one.status is not None:
        message.status.CopyFrom(status(one.status))
    return message


# ---- down ----------------------------------------------------------------------------------------


def command(message: agent_pb2.Command, expires_at: float) -> Command:
    """Return the command, due by ``expires_at`` on the agent's clock.

    Raises:
        WireError: it has no action that this agent knows, or lacks what the action needs.

    """
    if not message.command_id or not message.instance_id:
        raise WireError("a command needs command_id and instance_id")
    return Command(
        command_id=message.command_id,
        cause=message.cause,
        epoch=message.epoch,
        instance_id=message.instance_id,
        expected_generation=message.expected_generation,
        expires_at=expires_at,
        action=_action(message),
    )


def _action(message: agent_pb2.Command) -> Action:
    match message.WhichOneof("action"):
        case "launch":
            return _launch(message.launch)
        case "withdraw":
            reason = from_wire(WithdrawReason, message.withdraw.reason)
            if reason is None:
                raise WireError("withdraw.reason is missing, or newer than this agent")
            return Withdraw(reason, _optional(message.withdraw, "lease"))
        case "reinstate":
            return Reinstate()
        case "drain":
            drain = message.drain
            return Drain(
                lease=seconds(drain.lease),
                settle_time=seconds(drain.settle_time),
                quiet_scrapes=max(1, drain.quiet_scrapes),
                force_after=_optional(drain, "force_after"),
                grace=seconds(drain.grace),
            )
        case "terminate":
            return Terminate(seconds(message.terminate.grace))
        case "switch_role":
            return SwitchRole(_role(message.switch_role.role))
        case _:
            raise WireError("the command has no action this agent knows; upgrade the agent")


def _launch(launch: agent_pb2.Launch) -> Launch:
    return Launch(
        service=launch.service,
        role=_role(launch.role),
        template=launch.template,
        gpu_indices=tuple(launch.gpu_indices),
        rank=launch.rank,
        rank_count=max(1, launch.rank_count),
        group=launch.group,
        parameters=dict(launch.parameters),
        gate=Gate(
            launch.gate.kind or "none", tuple(launch.gate.routers), dict(launch.gate.options)
        ),
        startup_timeout=seconds(launch.startup_timeout) or 600.0,
        leader_host=launch.leader_host,
        ratio_hold=_optional(launch, "ratio_hold"),
    )


def _role(number: int) -> Role:
    role = from_wire(Role, number)
    if role is None:
        raise WireError("role is missing, or newer than this agent")
    return role


def _optional(message: Message, field: str) -> float | None:
    return seconds(getattr(message, field)) if message.HasField(field) else None
