"""What the coordinator tells agents, from the core's values onto the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from heteroscale.convert import duration, timestamp, to_wire
from heteroscale.v1 import agent_pb2, types_pb2
from heteroscale.words import Role, WithdrawReason
from heteroscale_coordinator.core.model import Command, Instance, Rank, Service, Verb
from heteroscale_coordinator.core.spec import DrainSpec, GateSpec

LEASED = frozenset({WithdrawReason.SOFT_SCALE_IN, WithdrawReason.RATIO_HOLD})
IDS_PER_RENEWAL = 500


def welcome(
    *,
    cluster_id: str,
    coordinator_id: str,
    epoch: int,
    now: float,
    report_interval: float,
    inventory_wanted: bool,
) -> agent_pb2.ConnectResponse:
    """Return the first message down."""
    return agent_pb2.ConnectResponse(
        welcome=agent_pb2.Welcome(
            cluster_id=cluster_id,
            epoch=epoch,
            server_time=timestamp(now),
            report_interval=duration(report_interval),
            inventory_wanted=inventory_wanted,
            coordinator_id=coordinator_id,
        )
    )


def ack(sequence: int) -> agent_pb2.ConnectResponse:
    """Return an acknowledgement of everything up to ``sequence``."""
    return agent_pb2.ConnectResponse(ack=agent_pb2.Ack(sequence=sequence))


def renewals(
    leases: Mapping[str, float], epoch: int, now: float
) -> Iterator[agent_pb2.ConnectResponse]:
    """Return the renewals of {instance id: seconds}, one message for each length."""
    ordered = sorted(leases.items(), key=lambda item: (item[1], item[0]))
    for seconds, items in groupby(ordered, key=lambda item: item[1]):
        ids = [instance_id for instance_id, _ in items]
        for start in range(0, len(ids), IDS_PER_RENEWAL):
            yield agent_pb2.ConnectResponse(
                lease_renewal=agent_pb2.LeaseRenewal(
                    epoch=epoch,
                    server_time=timestamp(now),
                    duration=duration(seconds),
                    instance_ids=ids[start : start + IDS_PER_RENEWAL],
                )
            )


def command(
    order: Command,
    instance: Instance | None,
    service: Service | None,
    *,
    epoch: int,
    now: float,
    leader_host: str = "",
) -> agent_pb2.ConnectResponse | None:
    """Return the message of ``order``, with what its service's specification adds.

    None when it cannot be carried out any more: a launch whose service or instance is gone. Other
    orders fall back to the default drain settings, for an instance may outlive its service.
    """
    message = agent_pb2.Command(
        command_id=order.command_id,
        cause=order.cause,
        epoch=epoch,
        instance_id=order.instance_id,
        expected_generation=order.expected_generation,
        server_time=timestamp(now),
        deadline=duration(max(0.0, order.expires_at - now)),
    )
    drain = service.spec.drain if service else DrainSpec()
    match order.verb:
        case Verb.LAUNCH:
            if service is None or instance is None or instance.role not in service.spec.roles:
                return None
            message.launch.CopyFrom(_launch(order, instance, service, leader_host))
        case Verb.WITHDRAW:
            message.withdraw.CopyFrom(_withdraw(order, drain))
        case Verb.REINSTATE:
            message.reinstate.SetInParent()
        case Verb.DRAIN:
            message.drain.CopyFrom(_drain(order, drain))
        case Verb.SWITCH_ROLE:
            if order.role is None:
                return None
            message.switch_role.role = to_wire(order.role)  # type: ignore[assignment]
        case Verb.TERMINATE:
            message.terminate.grace.CopyFrom(duration(drain.grace))
    return agent_pb2.ConnectResponse(command=message)


def _launch(
    order: Command, instance: Instance, service: Service, leader_host: str
) -> agent_pb2.Launch:
    role = service.spec.roles[instance.role]
    rank = instance.ranks[order.rank] if order.rank < len(instance.ranks) else Rank("", ())
    launch = agent_pb2.Launch(
        service=service.name,
        role=to_wire(instance.role),  # type: ignore[arg-type]
        rank=order.rank,
        rank_count=len(instance.ranks),
        group=instance.group,
        template=instance.template or role.template,
        # Within a job its GPUs are those of the job, as the agent there counts them.
        gpu_indices=() if rank.speaker else rank.gpu_indices,
        parameters=role.parameters,
        # Nobody sends ffn requests: its attention does.
        gate=_gate(GateSpec() if instance.role is Role.FFN else service.spec.gate),
        startup_timeout=duration(role.startup_timeout),
        leader_host=leader_host if order.rank else "",
    )
    if order.reason is WithdrawReason.RATIO_HOLD and order.lease is not None:
        launch.ratio_hold.CopyFrom(duration(order.lease))
    return launch


def _withdraw(order: Command, drain: DrainSpec) -> agent_pb2.Withdraw:
    message = agent_pb2.Withdraw(reason=to_wire(order.reason))  # type: ignore[arg-type]
    if order.reason in LEASED:
        message.lease.CopyFrom(duration(drain.lease if order.lease is None else order.lease))
    return message


def _drain(order: Command, drain: DrainSpec) -> agent_pb2.Drain:
    message = agent_pb2.Drain(
        lease=duration(drain.lease if order.lease is None else order.lease),
        settle_time=duration(drain.settle),
        quiet_scrapes=drain.quiet_scrapes,
        grace=duration(drain.grace),
    )
    if drain.force_after is not None:
        message.force_after.CopyFrom(duration(drain.force_after))
    return message


def _gate(gate: GateSpec) -> types_pb2.Gate:
    return types_pb2.Gate(kind=gate.kind, routers=gate.routers, options=gate.options)
