"""Commands that look and change nothing: get, describe, explain, watch."""

# ruff: noqa: PLC0415  (help and completion must not load gRPC)

from __future__ import annotations

from typing import Annotated

import typer

from heteroscale_cli.commands import completion
from heteroscale_cli.commands.common import OutputOption, connected
from heteroscale_cli.connection import Connection
from heteroscale_cli.vocabulary import Output, kind_of

_ServiceOption = Annotated[
    str,
    typer.Option(
        "--service",
        "-s",
        metavar="SERVICE",
        help="Only what belongs to this service.",
        autocompletion=completion.services,
    ),
]


@connected
def get(
    connection: Connection,
    *,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="services (svc), instances (inst), nodes (no), groups (grp) or decisions (dec).",
            autocompletion=completion.kinds,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Only this one: a name, an id or the beginning of an id; of decisions, a service.",
            autocompletion=completion.names,
        ),
    ] = None,
    service: _ServiceOption = "",
    output: OutputOption = Output.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Print what there is, then every change.")
    ] = False,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", min=1, help="Decisions: at most this many, newest first."),
    ] = 20,
) -> None:
    """List services, instances, nodes, groups or decisions."""
    from heteroscale_cli import reads

    query = reads.Query(kind_of(kind), name, service, limit)
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
            help="service, instance or node.",
            autocompletion=completion.described_kinds,
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which.", autocompletion=completion.names)
    ],
) -> None:
    """Show one service, instance or node at length."""
    from heteroscale_cli import reads

    reads.describe(connection, kind_of(kind), name)


@connected
def explain(
    connection: Connection,
    service: Annotated[str, typer.Argument(metavar="SERVICE", autocompletion=completion.services)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a service has the size it has.

    The last decision as a sentence, its inputs and arithmetic, and what would change it.
    """
    from heteroscale_cli import reads

    reads.explain(connection, service, output)


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
