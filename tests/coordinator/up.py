"""The agents' side of the wire, written independently: core values back into messages."""

from __future__ import annotations

from heteroscale.convert import duration, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale_coordinator.core.model import EngineSample, Inventory, LatencySample, RankFact

OPTIONAL = (
    "generation_tokens",
    "prompt_tokens",
    "computed_prompt_tokens",
    "requests_finished",
    "requests_aborted",
    "running",
    "waiting",
    "transferring",
    "kv_usage",
)


def engine(sample: EngineSample, sampled_at: float) -> agent_pb2.EngineReading:
    message = agent_pb2.EngineReading(
        instance_id=sample.instance_id,
        quality=to_wire(sample.quality),  # type: ignore[arg-type]
        age=duration(sampled_at - sample.at),
        time_to_first_token=latency(sample.ttft),
        time_between_tokens=latency(sample.tbt),
    )
    for name in OPTIONAL:
        if (value := getattr(sample, name)) is not None:
            setattr(message, name, value)
    if sample.gpu_percent is not None:
        message.gpu_sm_percent = sample.gpu_percent
    return message


def latency(sample: LatencySample | None) -> agent_pb2.Latency | None:
    if sample is None:
        return None
    return agent_pb2.Latency(
        sum_seconds=sample.sum_seconds,
        count=sample.observations,
        bucket_deltas=sample.bucket_deltas,
    )


def status(fact: RankFact) -> types_pb2.InstanceStatus:
    return types_pb2.InstanceStatus(
        instance_id=fact.instance_id,
        service=fact.service,
        role=to_wire(fact.role),  # type: ignore[arg-type]
        rank=fact.rank,
        rank_count=fact.rank_count,
        generation=fact.generation,
        state=to_wire(fact.state),  # type: ignore[arg-type]
        withdraw_reason=to_wire(fact.reason),  # type: ignore[arg-type]
        gate_state=to_wire(fact.gate_state),  # type: ignore[arg-type]
        endpoint=fact.endpoint,
        group=fact.group,
        template=fact.template,
        gpu_indices=fact.gpu_indices,
        state_age=duration(fact.state_age),
        message=fact.message,
        terminating=fact.terminating,
        startup_time=None if fact.startup_time is None else duration(fact.startup_time),
        origin=fact.origin,
    )


def inventory(value: Inventory) -> agent_pb2.Inventory:
    return agent_pb2.Inventory(
        inventory_hash=value.hash,
        gpus=[
            agent_pb2.Gpu(
                index=g.index,
                type=g.type,
                memory_bytes=g.memory_bytes,
                uuid=g.uuid,
                vendor=g.vendor,
                partition=g.partition,
                parent_uuid=g.parent_uuid,
                nic_distances=[to_wire(far) for far in g.nic_distances],  # type: ignore[misc]
                numa_node=-1 if g.numa_node is None else g.numa_node,
                nvlink_group=g.nvlink_group,
            )
            for g in value.gpus
        ],
        nics=[
            agent_pb2.Nic(
                name=n.name,
                port=n.port,
                rate_bps=round((n.rate_gbps or 0) * 1e9),
                rail=n.rail,
                link_layer=n.link_layer,
                netdev=n.netdev,
                numa_node=-1 if n.numa_node is None else n.numa_node,
            )
            for n in value.nics
        ],
        topology=value.topology,
        templates=[
            agent_pb2.LaunchTemplate(
                name=t.name,
                role=to_wire(t.role),  # type: ignore[arg-type]
                gpus=t.gpus,
                engine=t.engine,
                switches_role=t.switches_role,
                engine_version=t.engine_version,
            )
            for t in value.templates
        ],
        labels=value.labels,
        topology_sources=value.topology_sources,
        taints=map(str, value.taints),
    )
