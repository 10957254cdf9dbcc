"""Facts that change seldom: the hello, the inventory, instances and answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.message import Message

from heteroscale.convert import duration, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale_agent.identity import Identity
from heteroscale_agent.job import Claim
from heteroscale_agent.model import (
    CommandResult,
    InstanceEvent,
    InstanceStatus,
    Inventory,
    Report,
)
from heteroscale_agent.wire.readings import report

HISTORY_SPACING = 5.0
"""Seconds between the samples of a hello's history; windows need no closer ones."""


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
    claim: Claim | None = None,
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
        stands_for=_stands_for(claim) if claim is not None else None,
    )


def _stands_for(claim: Claim) -> agent_pb2.StandsFor:
    return agent_pb2.StandsFor(instance_id=claim.instance_id, rank=claim.rank, within=claim.within)


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
        topology_sources=inventory.topology_sources,
        taints=inventory.taints,
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
            vendor=gpu.vendor,
            partition=gpu.partition,
            parent_uuid=gpu.parent_uuid,
            nvlink_group=gpu.nvlink_group,
            nic_distances=[
                agent_pb2.NicDistance.ValueType(to_wire(one)) for one in gpu.nic_distances
            ],
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
            node_guid=nic.node_guid,
            rail=nic.rail,
            netdev=nic.netdev,
        )
    for template in inventory.templates:
        message.templates.add(
            name=template.name,
            role=to_wire(template.role),
            gpus=template.gpus,
            engine=template.engine,
            switches_role=template.switches_role,
            engine_version=template.engine_version,
        )
    message.inventory_hash = _hash(message)
    return message


def _hash(message: Message) -> str:
    return hashlib.blake2b(
        message.SerializeToString(deterministic=True), digest_size=12
    ).hexdigest()


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
