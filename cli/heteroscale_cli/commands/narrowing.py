"""The options of ``get``, each with the words that its help says."""

from __future__ import annotations

from typing import Annotated

import typer

from heteroscale_cli.commands import completion

KindArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="services (svc), instances (inst), nodes (no), groups (grp), clusters (clu) or "
        "decisions (dec).",
        autocompletion=completion.kinds,
    ),
]
NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="Only this one: a name, an id or the beginning of an id; of decisions, a service.",
        autocompletion=completion.names,
    ),
]
ServiceOption = Annotated[
    str,
    typer.Option(
        "--service",
        "-s",
        metavar="SERVICE",
        help="Only what belongs to this service.",
        autocompletion=completion.services,
    ),
]
WatchOption = Annotated[
    bool,
    typer.Option("--watch", "-w", help="Print what there is, then every change."),
]
LimitOption = Annotated[
    int,
    typer.Option("--limit", "-n", min=1, help="Decisions: at most this many, newest first."),
]
SinceOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Decisions: that went on at this time or later; 10:15, 2026-11-26T10:15 or 2h (ago).",
    ),
]
UntilOption = Annotated[
    str,
    typer.Option(metavar="TIME", help="Decisions: that began before this time."),
]
ActionOption = Annotated[
    list[str] | None,
    typer.Option(metavar="ACTION", help="Decisions: only this action; may be given again."),
]
BoundByOption = Annotated[
    list[str] | None,
    typer.Option(metavar="STAGE", help="Decisions: only bound by this; may be given again."),
]
ActedOption = Annotated[
    bool,
    typer.Option("--acted", help="Decisions: only what was done, no holds, no advice."),
]
AdviceOption = Annotated[
    bool,
    typer.Option("--advice", help="Decisions: only what advisory mode kept from being done."),
]
InstanceOption = Annotated[
    str,
    typer.Option(metavar="ID", help="Decisions: only what concerned it; the beginning is enough."),
]
