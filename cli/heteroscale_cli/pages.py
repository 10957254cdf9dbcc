"""Lists that are too long for one answer, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli.client import Client
from heteroscale_cli.errors import CliError

PAGE = 1000


async def instances(client: Client, service: str = "") -> AsyncIterator[list[pb.Instance]]:
    """Yield the instances of a service, or of all, by pages; none twice.

    A coordinator that knows no pages answers with all of them.

    Raises:
        CliError: as ``Client.call``, or the pages go round in a circle.

    """
    request = pb.ListInstancesRequest(service=service, page_size=PAGE)
    shown: set[str] = set()
    while True:
        answer = await client.call(client.stub.ListInstances, request)
        yield [one for one in answer.instances if one.instance_id not in shown]
        shown.update(one.instance_id for one in answer.instances)
        if not answer.next_page_token:
            return
        _forward(request.page_token, answer.next_page_token)
        request.page_token = answer.next_page_token


async def all_instances(client: Client, service: str = "") -> pb.ListInstancesResponse:
    """Return all of them as one answer; errors as ``instances``."""
    whole = pb.ListInstancesResponse()
    async for page in instances(client, service):
        whole.instances.extend(page)
    return whole


async def all_nodes(
    client: Client, room_for: str = "", *, with_room: bool = False
) -> pb.ListNodesResponse:
    """Return all nodes as one answer; ``with_room``: with what placement may use, as a service may."""
    whole = pb.ListNodesResponse()
    request = pb.ListNodesRequest(with_room=with_room, room_for=room_for, page_size=PAGE)
    while True:
        answer = await client.call(client.stub.ListNodes, request)
        token, answer.next_page_token = answer.next_page_token, ""
        whole.MergeFrom(answer)
        if not token:
            return whole
        _forward(request.page_token, token)
        request.page_token = token


def _forward(token: str, following: str) -> None:
    if token == following:
        raise CliError("the coordinator gives the same page again and again: upgrade it")
