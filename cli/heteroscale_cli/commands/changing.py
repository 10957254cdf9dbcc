"""Commands that ask for a change: apply, delete, pause, scale, drain, cordon, switch-role and so on."""

# ruff: noqa: PLC0415  (help and completion must not load gRPC)

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from heteroscale.words import Role
from heteroscale_cli.commands import completion
from heteroscale_cli.commands.common import OutputOption, connected
from heteroscale_cli.connection import Connection, seconds
from heteroscale_cli.errors import usage
from heteroscale_cli.vocabulary import Kind, Output, kind_of

_Service = Annotated[str, typer.Argument(metavar="SERVICE", autocompletion=completion.services)]
_Instance = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="Its id, or the beginning of it.",
        autocompletion=completion.instances,
    ),
]

_Node = Annotated[
    str,
    typer.Argument(metavar="NODE", help="Its agent's id.", autocompletion=completion.nodes),
]
_Gpus = Annotated[
    list[int] | None,
    typer.Option("--gpu", metavar="N", min=0, help="Only this GPU of it; repeatable."),
]
_Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown with the node.")]


class Half(StrEnum):
    """The two roles between which an engine can change."""

    PREFILL = "prefill"
    DECODE = "decode"


_Count = Annotated[int | None, typer.Option(min=0, metavar="N", help="Instances wanted.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the decision.")]


@connected
def apply(
    connection: Connection,
    file: Annotated[
        list[str],
        typer.Option(
            "--filename",
            "-f",
            metavar="FILE|-|DIR",
            help="A YAML file, - for standard input, or a folder of *.yaml and *.yml; repeatable.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the coordinator check it; change nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create or change services from YAML.

    Several files are all checked before the first is applied.
    """
    from heteroscale_cli import changes

    changes.apply(connection, file, output, dry_run=dry_run)


@connected
def delete(
    connection: Connection,
    kind: Annotated[str, typer.Argument(metavar="service|node", help="What NAME is.")],
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.services)],
    drain: Annotated[
        bool,
        typer.Option("--drain", help="Drain its instances; without it they run on, unmanaged."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a service, or a silent node that is gone for good."""
    from heteroscale_cli import changes

    found = kind_of(kind)
    if found not in (Kind.SERVICE, Kind.NODE):
        raise usage(f"only services and nodes can be deleted, not {kind}; see drain for instances")
    if found is Kind.NODE and drain:
        raise usage("--drain is for services: a silent node's instances cannot be drained")
    if not yes:
        changes.confirm_delete(found, name, drain=drain)
    changes.delete(connection, found, name, drain=drain)


@connected
def pause(connection: Connection, service: _Service, reason: _Reason = "") -> None:
    """Decide and explain, but command nothing."""
    from heteroscale_cli import changes

    changes.pause(connection, service, reason)


@connected
def resume(connection: Connection, service: _Service) -> None:
    """End a pause."""
    from heteroscale_cli import changes

    changes.resume(connection, service)


@connected
def scale(
    connection: Connection,
    service: _Service,
    *,
    prefill: _Count = None,
    decode: _Count = None,
    aggregated: _Count = None,
    attention: _Count = None,
    ffn: _Count = None,
) -> None:
    """Set counts by hand, once, within bounds.

    The policy goes on from there; pause the service to keep the counts. Where prefill is split, ffn
    follows attention unless it is given.
    """
    from heteroscale_cli import changes

    given = {
        Role.PREFILL: prefill,
        Role.DECODE: decode,
        Role.AGGREGATED: aggregated,
        Role.ATTENTION: attention,
        Role.FFN: ffn,
    }
    counts = {role: count for role, count in given.items() if count is not None}
    if not counts:
        raise usage(
            "scale: give --prefill and --decode, or --aggregated, or --attention and --decode"
        )
    changes.scale(connection, service, counts)


@connected
def drain(
    connection: Connection,
    instance: _Instance,
    reason: _Reason = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until it has stopped.")] = False,
    wait_timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long --wait waits; the drain goes on.")
    ] = "31m",
) -> None:
    """Let an instance finish its requests, then stop it.

    It is taken out of service first, and can be reinstated until it is stopped.
    """
    from heteroscale_cli import changes

    limit_s = seconds(wait_timeout, "--wait-timeout") if wait else None
    changes.drain(connection, instance, reason, limit_s)


@connected
def cordon(connection: Connection, node: _Node, gpu: _Gpus = None, reason: _Why = "") -> None:
    """Close a node, or some of its GPUs, to new instances.

    What runs there runs on and is counted; when a scale-in is due, it goes first. The cordon lasts,
    also over a restart of the coordinator, until uncordon.
    """
    from heteroscale_cli import changes

    changes.cordon(connection, node, gpu or (), reason)


@connected
def uncordon(connection: Connection, node: _Node, gpu: _Gpus = None) -> None:
    """Open a node, or some of its GPUs, to new instances again."""
    from heteroscale_cli import changes

    changes.uncordon(connection, node, gpu or ())


@connected
def reinstate(connection: Connection, instance: _Instance) -> None:
    """Put a withdrawn or draining instance back into service."""
    from heteroscale_cli import changes

    changes.reinstate(connection, instance)


@connected
def switch_role(
    connection: Connection,
    instance: _Instance,
    role: Annotated[Half, typer.Argument(metavar="ROLE", help="`prefill` or `decode`.")],
) -> None:
    """Have a running engine change between prefill and decode.

    Its launch template must say how (roleSwitch). It is taken out of service, emptied, asked, and
    comes back under its new role; or as it was, when it cannot.
    """
    from heteroscale.words import Role
    from heteroscale_cli import changes

    changes.switch_role(connection, instance, Role(role.value))
