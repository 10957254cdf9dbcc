"""Commands that look and change nothing: get, describe, explain, watch."""

# ruff: noqa: PLC0415  (help and completion must not load gRPC)

from __future__ import annotations

from typing import Annotated

import typer

from heteroscale_cli.commands import completion
from heteroscale_cli.commands import narrowing as by
from heteroscale_cli.commands.common import OutputOption, connected
from heteroscale_cli.connection import Connection
from heteroscale_cli.vocabulary import Output, kind_of


@connected
def get(
    connection: Connection,
    *,
    kind: by.KindArgument,
    name: by.NameArgument = None,
    service: by.ServiceOption = "",
    output: OutputOption = Output.TABLE,
    watch: by.WatchOption = False,
    limit: by.LimitOption = 20,
    since: by.SinceOption = "",
    until: by.UntilOption = "",
    action: by.ActionOption = None,
    bound_by: by.BoundByOption = None,
    acted: by.ActedOption = False,
    advice: by.AdviceOption = False,
    instance: by.InstanceOption = "",
) -> None:
    """List services, instances, nodes, groups, clusters or decisions.

    Of decisions, -o json and -o yaml have the arithmetic too.
    """
    from heteroscale_cli import reads
    from heteroscale_cli.resources import Narrow

    narrow = Narrow(
        reads.time_of(since, "--since"),
        reads.time_of(until, "--until"),
        tuple(action or ()),
        tuple(bound_by or ()),
        acted,
        advice,
        instance,
        output in (Output.JSON, Output.YAML),
    )
    query = reads.Query(kind_of(kind), name, service, limit, narrow)
    if watch:
        reads.get_watching(connection, query, output)
    else:
        reads.get(connection, query, output)


@connected
def describe(
    connection: Connection,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="service, instance, node or cluster.",
            autocompletion=completion.described_kinds,
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which.", autocompletion=completion.names)
    ],
) -> None:
    """Show one service, instance, node or cluster at length."""
    from heteroscale_cli import reads

    reads.describe(connection, kind_of(kind), name)


@connected
def explain(
    connection: Connection,
    service: Annotated[str, typer.Argument(metavar="SERVICE", autocompletion=completion.services)],
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Explain the decision of this time: 2026-11-26T10:15, 10:15, or -10m (ago).",
        ),
    ] = "",
    queries: Annotated[
        bool,
        typer.Option(
            "--queries",
            help="Also the PromQL by which signals are read, of a service that a Prometheus tells of.",
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a service has the size it has, or had at a time.

    The decision as a sentence, what was measured, its arithmetic done again line by line, and, of the
    last one, what would change it.
    """
    from heteroscale_cli import reads

    reads.explain(connection, service, output, reads.time_of(at, "--at"), queries=queries)


@connected
def watch(
    connection: Connection,
    service: Annotated[
        str, typer.Argument(metavar="[SERVICE]", autocompletion=completion.services)
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Watch load, counts, states and decisions live.

    On a terminal a view that renews itself; through a pipe one line per change; with -o json one
    JSON object per line. A coordinator that restarts is waited for. Ctrl-C ends it.
    """
    from heteroscale_cli import watching

    watching.watch(connection, service, output)
