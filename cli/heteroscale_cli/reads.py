"""What get, describe and explain do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import Message

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli import describe as described
from heteroscale_cli import pages, tables
from heteroscale_cli.client import Client, run
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import EXIT_UNREACHABLE, CliError, usage
from heteroscale_cli.moments import moment
from heteroscale_cli.output import Table, print_line, print_message, print_note, print_text
from heteroscale_cli.resources import (
    NO_NARROW,
    Narrow,
    listing,
    pick_cluster,
    pick_instance,
    whole_node,
)
from heteroscale_cli.vocabulary import Kind, Output

_SHOWN_DECISIONS = 5


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; ``name`` and ``service`` narrow it, the rest is for decisions."""

    kind: Kind
    name: str | None = None
    service: str = ""
    limit: int = 20
    narrow: Narrow = NO_NARROW


def time_of(text: str, option: str) -> float | None:
    """Return what was typed as seconds since 1970; None when nothing was.

    Raises:
        CliError: it is no time.

    """
    return moment(text, option, datetime.now().astimezone()) if text else None


def get(connection: Connection, query: Query, output: Output) -> None:
    """Print the answer once."""
    if query.kind is not Kind.DECISION and query.narrow.narrows:
        raise usage(
            "--since, --until, --action, --bound-by, --acted, --advice, --instance: decisions"
        )
    if query.kind is Kind.INSTANCE and not query.name and output in (Output.TABLE, Output.WIDE):
        run(connection, lambda client: _instances(client, query, output))
        return
    message, items = run(
        connection,
        lambda client: listing(
            client, query.kind, query.name, query.service, limit=query.limit, narrow=query.narrow
        ),
    )
    if output in (Output.JSON, Output.YAML):
        print_message(message, output)
    elif not items:
        print_note(f"No {query.kind.value} found.")
    else:
        _print_rows(_table(query, output), items, query, output)


async def _instances(client: Client, query: Query, output: Output) -> None:
    """Print instances page by page, as they come."""
    table, found = _table(query, output), False
    async for page in pages.instances(client, query.service):
        if page:
            _print_rows(table, page, query, output)
        found = found or bool(page)
    if not found:
        print_note(f"No {query.kind.value} found.")


def get_watching(connection: Connection, query: Query, output: Output) -> None:
    """Print the present state, then every change, until interrupted or the stream ends."""
    if query.kind in (Kind.GROUP, Kind.CLUSTER):
        other = "instances" if query.kind is Kind.GROUP else "nodes"
        raise usage(f"{query.kind.value} cannot be watched: watch their {other}")
    if query.narrow.narrows:
        raise usage("--watch shows every change: filters of decisions are for lists")
    run(connection, lambda client: _watch(client, query, output))


async def _watch(client: Client, query: Query, output: Output) -> None:
    scope = query.service or (query.name or "" if _named_by_service(query.kind) else "")
    table, first, synced = _table(query, output), list[Message](), False
    shown = set[str]()
    async with aclosing(client.watch(scope)) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "synced" and not synced:
                synced = True
                _print_first(table, first, query, output)
            item = _wanted(response, query)
            if item is None or _never_shown(item, shown):
                continue
            if output in (Output.JSON, Output.YAML):
                print_line(item, output)
            elif synced:
                _print_rows(table, [item], query, output)
            else:
                first.append(item)
    raise CliError("the coordinator ended the stream", EXIT_UNREACHABLE)


def _print_first(table: Table, items: Sequence[Message], query: Query, output: Output) -> None:
    if output in (Output.TABLE, Output.WIDE):
        _print_rows(table, items, query, output)


def _never_shown(item: Message, shown: set[str]) -> bool:
    """Return whether this is the end of an instance that was not shown, as one of others is.

    Of an instance that is forgotten only the id is told, and to every watcher.
    """
    if not isinstance(item, pb.Instance):
        return False
    if not item.service:
        return item.instance_id not in shown
    shown.add(item.instance_id)
    return False


def _named_by_service(kind: Kind) -> bool:
    return kind in (Kind.SERVICE, Kind.DECISION)


def _wanted(response: pb.WatchResponse, query: Query) -> Message | None:
    """Return the message's item when it is of the kind and name asked for."""
    event = response.WhichOneof("event")
    if event is None or event != query.kind.name.lower():
        return None
    item: Message = getattr(response, event)
    if query.name is None or _named_by_service(query.kind):
        return item  # the server has narrowed it already
    if isinstance(item, pb.Node) and item.hostname == query.name:
        return item
    identity = item.agent_id if isinstance(item, pb.Node) else getattr(item, "instance_id", "")
    return item if identity.startswith(query.name) else None


def _table(query: Query, output: Output) -> Table:
    return Table(tables.header(query.kind, wide=output is Output.WIDE))


def _print_rows(table: Table, items: Sequence[Message], query: Query, output: Output) -> None:
    now, wide = time.time(), output is Output.WIDE
    for line in table.lines([tables.row(query.kind, item, now, wide=wide) for item in items]):
        print_text(line)


def describe(connection: Connection, kind: Kind, name: str) -> None:
    """Print one thing at length."""
    work = {
        Kind.SERVICE: _service,
        Kind.INSTANCE: _instance,
        Kind.NODE: _node,
        Kind.CLUSTER: _cluster,
    }.get(kind)
    if work is None:
        raise usage(f"{kind.value} have no description: see `heteroscale get {kind.value} -o wide`")
    print_text("\n".join(run(connection, lambda client: work(client, name))))


async def _service(client: Client, name: str) -> list[str]:
    stub = client.stub
    service = await client.call(stub.GetService, pb.GetServiceRequest(name=name))
    instances = await pages.all_instances(client, name)
    request = pb.ListDecisionsRequest(service=name, page_size=_SHOWN_DECISIONS)
    decisions = await client.call(stub.ListDecisions, request)
    return described.service(service, instances.instances, decisions.decisions, time.time())


async def _instance(client: Client, name: str) -> list[str]:
    answer = await pages.all_instances(client)
    return described.instance(pick_instance(answer.instances, name), time.time())


async def _node(client: Client, name: str) -> list[str]:
    node = await whole_node(client, name)
    answer = await pages.all_instances(client)
    return described.node(node, answer.instances, time.time())


async def _cluster(client: Client, name: str) -> list[str]:
    answer = await client.call(client.stub.ListClusters, pb.ListClustersRequest())
    return described.cluster(pick_cluster(answer.clusters, name), time.time())


def explain(
    connection: Connection,
    service: str,
    output: Output,
    at: float | None = None,
    *,
    queries: bool = False,
) -> None:
    """Print why the service has the size it has, or had at a time."""
    time = None if at is None else timestamp(at)
    request = pb.ExplainServiceRequest(name=service, time=time, with_queries=queries)
    answer = run(connection, lambda client: client.call(client.stub.ExplainService, request))
    if output in (Output.JSON, Output.YAML):
        print_message(answer, output)
    else:
        print_text("\n".join(described.explanation(answer)))
