"""The kinds one can ``get``: how they are listed, and how one is picked by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf.message import Message

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli import pages
from heteroscale_cli.client import Client, NotFoundError
from heteroscale_cli.errors import CliError
from heteroscale_cli.vocabulary import Kind

_M = TypeVar("_M", pb.Instance, pb.Node, pb.Group, pb.Cluster)


Listing = tuple[Message, Sequence[Message]]
"""The message to print for machines, and its items for a table."""


@dataclass(frozen=True, slots=True)
class Narrow:
    """Which decisions; times in seconds since 1970."""

    since: float | None = None
    until: float | None = None
    actions: tuple[str, ...] = ()
    bound_by: tuple[str, ...] = ()
    acted: bool = False
    advice: bool = False
    instance: str = ""
    arithmetic: bool = False
    """With sums, signals and ranges."""

    @property
    def narrows(self) -> bool:
        """Whether anything is asked for that other kinds and watches do not know."""
        return replace(self, arithmetic=False) != NO_NARROW


NO_NARROW = Narrow()


async def listing(
    client: Client,
    kind: Kind,
    name: str | None,
    service: str,
    *,
    limit: int = 0,
    narrow: Narrow = NO_NARROW,
) -> Listing:
    """Return everything of ``kind``, or what ``name`` says; a decision's name is its service's.

    Raises:
        CliError: no such name, or a part of a name that fits several.

    """
    match kind:
        case Kind.SERVICE:
            return await _services(client, name)
        case Kind.INSTANCE:
            instances = await pages.all_instances(client, service)
            return _picked(instances, pick_instance(instances.instances, name) if name else None)
        case Kind.NODE:
            return await _nodes(client, name)
        case Kind.GROUP:
            return await _groups(client, name, service)
        case Kind.CLUSTER:
            return await _clusters(client, name)
        case Kind.DECISION:
            decisions = await _decisions(client, name or service, limit, narrow)
            return decisions, decisions.decisions


async def _decisions(
    client: Client, service: str, limit: int, narrow: Narrow
) -> pb.ListDecisionsResponse:
    """Return so many decisions, page by page."""
    found = pb.ListDecisionsResponse()
    request = pb.ListDecisionsRequest(
        service=service,
        start_time=None if narrow.since is None else timestamp(narrow.since),
        end_time=None if narrow.until is None else timestamp(narrow.until),
        actions=narrow.actions,
        bound_by=narrow.bound_by,
        only_acted=narrow.acted,
        only_advice=narrow.advice,
        instance_id=narrow.instance,
        with_arithmetic=narrow.arithmetic,
    )
    while True:
        request.page_size = max(0, limit - len(found.decisions))
        page = await client.call(client.stub.ListDecisions, request)
        found.decisions.extend(page.decisions)
        found.next_page_token = request.page_token = page.next_page_token
        if not page.next_page_token or len(found.decisions) >= limit:
            return found


async def _services(client: Client, name: str | None) -> Listing:
    if name:
        service = await client.call(client.stub.GetService, pb.GetServiceRequest(name=name))
        return service, [service]
    services = await client.call(client.stub.ListServices, pb.ListServicesRequest())
    return services, services.services


async def _nodes(client: Client, name: str | None) -> Listing:
    if name:
        node = await whole_node(client, name)
        return node, [node]
    nodes = await pages.all_nodes(client)
    return nodes, nodes.nodes


async def _groups(client: Client, name: str | None, service: str) -> Listing:
    groups = await client.call(client.stub.ListGroups, pb.ListGroupsRequest(service=service))
    return _picked(groups, _pick_group(groups.groups, name) if name else None)


async def _clusters(client: Client, name: str | None) -> Listing:
    clusters = await client.call(client.stub.ListClusters, pb.ListClustersRequest())
    return _picked(clusters, pick_cluster(clusters.clusters, name) if name else None)


def _picked(everything: Message, item: Message | None) -> Listing:
    if item is not None:
        return item, [item]
    field = everything.DESCRIPTOR.fields[0].name  # a list message has the one field
    return everything, getattr(everything, field)


def pick_instance(instances: Sequence[pb.Instance], text: str) -> pb.Instance:
    """Return the instance with this id, or the only one whose id begins with it.

    Raises:
        CliError: none, or several.

    """
    exact = [i for i in instances if i.instance_id == text]
    fits = exact or [i for i in instances if i.instance_id.startswith(text)]
    return _only("instance", text, fits, [i.instance_id for i in fits])


def pick_node(nodes: Sequence[pb.Node], text: str) -> pb.Node:
    """Return the node of this agent id, or hostname, or the only id that begins with it.

    Raises:
        CliError: none, or several, as when one host has several agents.

    """
    exact = [n for n in nodes if n.agent_id == text] or [n for n in nodes if n.hostname == text]
    fits = exact or [n for n in nodes if n.agent_id.startswith(text)]
    return _only("node", text, fits, [n.agent_id for n in fits])


async def whole_node(client: Client, text: str) -> pb.Node:
    """Return the node that ``pick_node`` finds, with its devices one by one.

    Raises:
        CliError: none, or several.

    """
    nodes = await pages.all_nodes(client)
    agent_id = pick_node(nodes.nodes, text).agent_id
    request = pb.ListNodesRequest(agent_id=agent_id, with_devices=True)
    return pick_node((await client.call(client.stub.ListNodes, request)).nodes, agent_id)


def _pick_group(groups: Sequence[pb.Group], text: str) -> pb.Group:
    fits = [group for group in groups if group.name == text]
    return _only("group", text, fits, [f"{group.name} of {group.service}" for group in fits])


def pick_cluster(clusters: Sequence[pb.Cluster], text: str) -> pb.Cluster:
    """Return the cluster of this name.

    Raises:
        CliError: there is none.

    """
    fits = [cluster for cluster in clusters if cluster.name == text]
    return _only("cluster", text, fits, [])


def _only(kind: str, text: str, fits: Sequence[_M], ids: Sequence[str]) -> _M:
    if not fits:
        raise NotFoundError(f"{kind} {text!r} not found: see `heteroscale get {kind}s`")
    if len(fits) > 1:
        shown = ", ".join(sorted(ids)[:5]) + (", …" if len(ids) > 5 else "")  # noqa: PLR2004
        raise CliError(f"{kind} {text!r} fits {len(fits)}: {shown}")
    return fits[0]
