"""Completion of kinds and of names; a coordinator that is not there completes nothing, quickly."""

# ruff: noqa: PLC0415  (completion of a kind must not load gRPC)

from __future__ import annotations

from dataclasses import replace

import typer

from heteroscale_cli.commands.common import connection_of
from heteroscale_cli.errors import CliError
from heteroscale_cli.vocabulary import SHORT, Kind, kind_of

_PATIENCE_S = 1.0
_NAME_FIELD = {
    Kind.SERVICE: "name",
    Kind.INSTANCE: "instance_id",
    Kind.NODE: "agent_id",
    Kind.GROUP: "name",
    Kind.CLUSTER: "name",
    Kind.DECISION: "name",
}


def kinds(incomplete: str) -> list[str]:
    """Return the kinds of ``get`` that begin so."""
    return [k.value for k in SHORT if k.value.startswith(incomplete)]


def described_kinds(incomplete: str) -> list[str]:
    """Return the kinds of ``describe`` that begin so."""
    known = (Kind.SERVICE, Kind.INSTANCE, Kind.NODE, Kind.CLUSTER)
    return [k.value.removesuffix("s") for k in known if k.value.startswith(incomplete)]


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of the kind typed before."""
    try:
        return _names(ctx, kind_of(str(ctx.params.get("kind"))), incomplete)
    except CliError:
        return []


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of services."""
    return _names(ctx, Kind.SERVICE, incomplete)


def instances(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of instances."""
    return _names(ctx, Kind.INSTANCE, incomplete)


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of nodes."""
    return _names(ctx, Kind.NODE, incomplete)


def _names(ctx: typer.Context, kind: Kind, incomplete: str) -> list[str]:
    from heteroscale_cli.client import Client, run
    from heteroscale_cli.resources import listing

    listed = Kind.SERVICE if kind is Kind.DECISION else kind  # decisions are named by service

    async def ask(client: Client) -> list[str]:
        _, items = await listing(client, listed, None, "")
        return [str(getattr(item, _NAME_FIELD[listed])) for item in items]

    try:
        connection = replace(connection_of(ctx.params), timeout_s=_PATIENCE_S)
        found = run(connection, ask)
    except (CliError, KeyError):
        return []
    return sorted(name for name in found if name.startswith(incomplete))
