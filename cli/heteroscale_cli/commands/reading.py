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
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Decisions: that went on at this time or later; 10:15, 2026-11-26T10:15 or 2h (ago).",
        ),
    ] = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Decisions: that began before this time.")
    ] = "",
    action: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION", help="Decisions: only this action; may be given again."),
    ] = None,
    bound_by: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Decisions: only bound by this; may be given again."),
    ] = None,
    acted: Annotated[
        bool, typer.Option("--acted", help="Decisions: only what was done, no holds, no advice.")
    ] = False,
    advice: Annotated[
        bool,
        typer.Option("--advice", help="Decisions: only what advisory mode kept from being done."),
    ] = False,
    instance: Annotated[
        str,
        typer.Option(
            metavar="ID", help="Decisions: only what concerned it; the beginning is enough."
        ),
    ] = "",
) -> None:
    """List services, instances, nodes, groups or decisions.

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
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Explain the decision of this time: 2026-11-26T10:15, 10:15, or -10m (ago).",
        ),
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a service has the size it has, or had at a time.

    The decision as a sentence, what was measured, its arithmetic done again line by line, and, of the
    last one, what would change it.
    """
    from heteroscale_cli import reads

    reads.explain(connection, service, output, reads.time_of(at, "--at"))


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
