"""The coordinator's own nodes, read in pages: a fleet of thousands is too long for one answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from heteroscale.convert import from_wire, unix_seconds
from heteroscale.taints import parse_taint
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState, Role
from heteroscale_cli import pages
from heteroscale_cli.client import Client, NotFoundError, run
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import CliError
from heteroscale_cli.placing.inventory import LIVE, ClassChange, Holder, Inventory, Node
from heteroscale_coordinator.core.model import LIVE_STATES
from heteroscale_coordinator.core.placement import NodeView, Standing, SubCluster
from heteroscale_coordinator.core.placement.emptying import Tenant


def read(connection: Connection, services: Sequence[str] = ()) -> Inventory:
    """Return the nodes with their room, and the instances of ``services``.

    Where one service is asked for, nodes on which its launches failed of late are closed, as they are
    to the coordinator.

    Raises:
        CliError: the coordinator cannot be asked, or is too old to tell.

    """
    return run(connection, lambda client: _read(client, services))


def document(connection: Connection, service: str) -> str:
    """Return the YAML of a service that is there; CliError: it is not, or cannot be asked for."""
    request = pb.GetServiceRequest(name=service)
    return run(connection, lambda c: c.call(c.stub.GetService, request)).document


def documents(connection: Connection) -> list[str]:
    """Return the YAML of every service that is there; CliError: they cannot be asked for."""
    answer = run(connection, lambda c: c.call(c.stub.ListServices, pb.ListServicesRequest()))
    return [service.document for service in answer.services]


def repairs(connection: Connection, services: Sequence[str]) -> dict[str, str]:
    """Return what each service's last decision says of repair, where it says anything."""

    async def work(client: Client) -> dict[str, str]:
        answer = await client.call(client.stub.ListServices, pb.ListServicesRequest())
        said = {one.name: one.last_decision.inputs.get("repair", "") for one in answer.services}
        return {name: text for name in services if (text := said.get(name, ""))}

    return run(connection, work)


def holders(connection: Connection) -> list[Holder]:
    """Return who holds GPUs, rank by rank; CliError as ``read``."""

    async def work(client: Client) -> list[Holder]:
        answer = await pages.all_instances(client)
        return [one for message in answer.instances for one in _holders(message)]

    return run(connection, work)


def _holders(message: pb.Instance) -> list[Holder]:
    """Return the ranks of an instance that holds GPUs; only one of one rank that serves can move."""
    state, ranks = from_wire(InstanceState, message.state), len(message.agent_ids)
    if state not in LIVE_STATES or not ranks:
        return []
    movable = state is InstanceState.IN_SERVICE and ranks == 1 and not message.origin
    each = len(message.gpu_indices) // ranks
    role = from_wire(Role, message.role)
    return [
        Holder(
            Tenant(
                message.instance_id,
                agent_id,
                tuple(message.gpu_indices[place * each : (place + 1) * each]),
                movable,
            ),
            message.service,
            role.value if role else "?",
        )
        for place, agent_id in enumerate(message.agent_ids)
    ]


async def _read(client: Client, services: Sequence[str]) -> Inventory:
    answers = {name: await _instances(client, name) for name in services}
    now = time.time()
    standing = {
        name: None if told is None else _standing(told.instances, now)
        for name, told in answers.items()
    }
    every = (one for told in answers.values() if told is not None for one in told.instances)
    foreign = {one.instance_id for one in every if one.origin}
    known = [name for name, found in standing.items() if found is not None]
    room_for = known[0] if len(services) == 1 and known else ""
    whole = await pages.all_nodes(client, room_for, with_room=True)
    nodes = tuple(_node(message) for message in whole.nodes)
    if not nodes:
        raise CliError(f"{client.connection.coordinator} knows no nodes yet: are agents connected?")
    return Inventory(
        LIVE,
        nodes,
        {name: found or () for name, found in standing.items()},
        prices=dict(whole.gpu_prices),
        vendors=dict(whole.gpu_vendors),
        sub_clusters={one.name: _sub_cluster(one) for one in whole.sub_clusters},
        service_quotas={one.name: dict(one.service_quotas) for one in whole.sub_clusters},
        foreign=frozenset(foreign),
        changes=tuple(map(_change, whole.class_changes)),
        breakers=dict(whole.breakers),
    )


def _sub_cluster(message: pb.SubCluster) -> SubCluster:
    return SubCluster(
        left_out=message.left_out,
        trial=message.trial,
        prices=dict(message.gpu_prices),
        quotas=dict(message.gpu_quotas),
    )


async def _instances(client: Client, service: str) -> pb.ListInstancesResponse | None:
    """Return the instances of a service; None: it is not known there."""
    try:
        return await pages.all_instances(client, service)
    except NotFoundError:
        return None


def _standing(messages: Iterable[pb.Instance], now: float) -> tuple[Standing, ...]:
    """Return those of the instances that hold GPUs."""
    found = (_instance(message, now) for message in messages)
    return tuple(one for one in found if one is not None)


def _instance(message: pb.Instance, now: float) -> Standing | None:
    state = from_wire(InstanceState, message.state)
    role = from_wire(Role, message.role)
    if state not in LIVE_STATES or role is None:
        return None
    told = message.HasField("running") and message.HasField("waiting")
    return Standing(
        instance_id=message.instance_id,
        role=role,
        agent_ids=tuple(message.agent_ids),
        group=message.group,
        withdrawn=state is InstanceState.WITHDRAWN,
        idle=message.running + message.waiting if told else None,
        gpu_type=message.gpu_type,
        gpus=max(1, len(message.gpu_indices) // max(1, len(message.agent_ids))),
        sick=message.sick,
        age=max(0.0, now - unix_seconds(message.create_time)),
    )


def _told(indices: Sequence[int], homes: Sequence[int]) -> dict[int, int]:
    return {index: home for index, home in zip(indices, homes, strict=False) if home >= 0}


def _node(message: pb.Node) -> Node:
    if not message.HasField("room"):
        raise CliError("this coordinator is too old to tell the room on its nodes: upgrade it")
    room = message.room
    types = (
        room.gpu_types if len(room.gpu_types) != 1 else [*room.gpu_types] * len(room.gpu_indices)
    )
    view = NodeView(
        agent_id=message.agent_id,
        hostname=message.hostname,
        topology=dict(message.topology),
        gpu_types=dict(zip(room.gpu_indices, types, strict=False)),
        free=tuple(room.free_gpus),
        templates=frozenset(room.templates),
        usable=not room.closed,
        closed=dict(room.closed_gpus),
        why_not=room.closed,
        neighbourhoods=_told(room.gpu_indices, room.numa_nodes),
        links=_told(room.gpu_indices, room.nvlink_groups),
        limping=frozenset(room.limping_gpus),
        taints=tuple(sorted(map(parse_taint, room.taints))),
    )
    return Node(view, frozenset(room.held_gpus), room.trial, tuple(room.trial_types))


def _change(message: pb.ClassChange) -> ClassChange:
    return ClassChange(
        unix_seconds(message.time),
        message.domain,
        message.before,
        message.after,
        message.nodes,
        message.reason,
    )
