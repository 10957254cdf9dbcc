"""What commands share: the connection's options, and how a failure ends the process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from heteroscale_cli.connection import DEFAULT_COORDINATOR, DEFAULT_TIMEOUT, Connection, seconds
from heteroscale_cli.errors import EXIT_INTERRUPTED, CliError
from heteroscale_cli.vocabulary import Output

OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="Format; json and yaml are stable for machines.")
]


def _options(
    *,
    coordinator: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="HETEROSCALE_COORDINATOR",
            help="Where the coordinator listens for operators.",
        ),
    ] = DEFAULT_COORDINATOR,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="HETEROSCALE_CA",
            help="PEM of the authority that signed its certificate; turns TLS on.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="HETEROSCALE_CERT", help="PEM of your certificate (mutual TLS)."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="HETEROSCALE_KEY", help="PEM of your private key."),
    ] = None,
    server_name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="HETEROSCALE_SERVER_NAME",
            help="Name its certificate bears, when that is not the host dialled.",
        ),
    ] = "",
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="HETEROSCALE_INSECURE",
            help="Go beyond this machine without TLS: anyone on the network can read and forge.",
        ),
    ] = False,
    timeout: Annotated[
        str,
        typer.Option(
            metavar="DURATION", envvar="HETEROSCALE_TIMEOUT", help="Deadline of every call."
        ),
    ] = DEFAULT_TIMEOUT,
) -> None:
    """Stand for the options of a connection; typer reads this signature."""


_PARAMETERS = [
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in inspect.signature(_options, eval_str=True).parameters.values()
]


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` a Connection first, made of options it need not know of.

    A CliError ends the process with its line on standard error and its exit code.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(**values: Any) -> None:
        options = {parameter.name: values.pop(parameter.name) for parameter in _PARAMETERS}
        with_exit_code(lambda: command(connection_of(options), **values))

    # typer reads names, types and defaults from here.
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + _PARAMETERS
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def with_exit_code(work: Callable[[], None]) -> None:
    """Do ``work``; end with the code of its failure."""
    try:
        work()
    except CliError as error:
        if text := error.shown():
            typer.echo(text, err=True)
        raise typer.Exit(error.code) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def connection_of(options: Mapping[str, Any]) -> Connection:
    """Return the connection that the options describe.

    Raises:
        CliError: the timeout is no duration.

    """
    return Connection(
        coordinator=options["coordinator"],
        ca=options["ca"],
        cert=options["cert"],
        key=options["key"],
        server_name=options["server_name"] or "",
        insecure=bool(options["insecure"]),
        timeout_s=seconds(options["timeout"], "--timeout"),
    )
