"""What operators are shown of nodes: what stands on one, its devices, what is wrong with them.

Pure. An unknown value is left unset, never zero; of an agent that is silent all readings are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat

from heteroscale.convert import duration
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState
from heteroscale_coordinator.core.cordon import NOTHING_CLOSED, Closed
from heteroscale_coordinator.core.devices import (
    GpuFact,
    GpuSample,
    NicFact,
    NicSample,
    troubles,
)
from heteroscale_coordinator.core.model import LIVE_STATES, Instance, Inventory
from heteroscale_coordinator.core.state import Agent

_GPU_READINGS = tuple(name for name in GpuSample._fields if name != "health")
_NIC_READINGS = tuple(name for name in NicSample._fields if name != "share")

Gpus = Sequence[tuple[GpuFact, GpuSample]]
Nics = Sequence[tuple[NicFact, NicSample]]


def node_message(
    agent: Agent,
    instances: Iterable[Instance],
    now: float,
    closed: Closed = NOTHING_CLOSED,
    *,
    with_devices: bool = False,
) -> pb.Node:
    """Return a node with what stands on it, and with its devices one by one when wanted.

    ``closed``: what an operator cordoned of it.
    """
    here = [i for i in instances if i.state in LIVE_STATES or i.state is InstanceState.LOST]
    holders = {
        index: instance.instance_id
        for instance in here
        for rank in instance.ranks
        if rank.agent_id == agent.agent_id
        for index in rank.gpu_indices
    }
    inventory = agent.inventory
    gpus, nics = _gpus(agent), _nics(agent)
    told = [seen.active for _, seen in nics if seen.active is not None]
    shares = [seen.share for _, seen in nics if seen.share is not None]
    message = pb.Node(
        agent_id=agent.agent_id,
        hostname=agent.hostname,
        connected=agent.connected,
        silent=duration(max(0.0, now - agent.heard_at)) if agent.heard else None,
        topology=inventory.topology,
        topology_sources=inventory.topology_sources,
        gpu_type=",".join(sorted({gpu.type for gpu in inventory.gpus})),
        gpu_count=len(inventory.gpus),
        gpus_used=len(holders),
        instance_ids=sorted(instance.instance_id for instance in here),
        message=agent.message,
        agent_version=agent.version,
        nic_count=len(inventory.nics),
        nics_active=sum(told) if told else None,
        nic_share_percent=100 * max(shares) if shares else None,
        gpu_utilization_percent=_mean([seen.utilization_percent for _, seen in gpus]),
        gpu_sm_activity_percent=_mean([seen.sm_activity_percent for _, seen in gpus]),
        troubles=troubles(gpus, nics),
        cordoned=closed.node is not None,
        cordoned_gpus=sorted(closed.indices),
        cordon=closed.text,
        taints=map(str, inventory.taints),
    )
    if with_devices:
        message.gpus.extend(_gpu(fact, seen, holders, inventory) for fact, seen in gpus)
        message.nics.extend(_nic(fact, seen) for fact, seen in nics)
        message.engine_versions.update(
            {one.name: one.engine_version for one in inventory.templates if one.engine_version}
        )
    return message


def _gpus(agent: Agent) -> Gpus:
    """Return each GPU with its readings; of a silent agent they are unknown."""
    seen = () if agent.silent else agent.devices.gpus()
    return list(zip(agent.inventory.gpus, chain(seen, repeat(GpuSample())), strict=False))


def _nics(agent: Agent) -> Nics:
    seen = () if agent.silent else agent.devices.nics()
    return list(zip(agent.inventory.nics, chain(seen, repeat(NicSample())), strict=False))


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _gpu(
    fact: GpuFact, seen: GpuSample, holders: Mapping[int, str], inventory: Inventory
) -> pb.NodeGpu:
    message = pb.NodeGpu(
        index=fact.index,
        type=fact.type,
        uuid=fact.uuid,
        vendor=fact.vendor,
        partition=fact.partition,
        parent_uuid=fact.parent_uuid,
        memory_bytes=fact.memory_bytes,
        numa_node=fact.numa_node,
        nvlink_group=fact.nvlink_group,
        instance_id=holders.get(fact.index, ""),
        health=seen.health.value if seen.health else "",
        nic_distances={
            nic.label: far.value
            for nic, far in zip(inventory.nics, fact.nic_distances, strict=False)
            if far is not None
        },
    )
    for name in _GPU_READINGS:
        if (value := getattr(seen, name)) is not None:
            setattr(message, name, value)
    return message


def _nic(fact: NicFact, seen: NicSample) -> pb.NodeNic:
    message = pb.NodeNic(
        name=fact.label,
        link_layer=fact.link_layer,
        netdev=fact.netdev,
        rail=fact.rail,
        numa_node=fact.numa_node,
        best_rate_gbps=fact.rate_gbps,
        share_percent=None if seen.share is None else 100 * seen.share,
    )
    for name in _NIC_READINGS:
        if (value := getattr(seen, name)) is not None:
            setattr(message, name, value)
    return message
