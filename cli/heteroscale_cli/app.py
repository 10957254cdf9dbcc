"""The typer application: every command in the order of its use, then the programs of others."""

from __future__ import annotations

from importlib.metadata import EntryPoint, PackageNotFoundError, version
from typing import Annotated

import typer

from heteroscale_cli import handover
from heteroscale_cli.commands import changing, placing, reading
from heteroscale_cli.commands.common import with_exit_code
from heteroscale_cli.errors import usage

_EPILOG = (
    "Exit codes: 0 done, 1 refused or not found, 2 wrong usage or document unreadable, "
    "3 coordinator unreachable, 130 interrupted."
)

app = typer.Typer(
    name="heteroscale",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: quick, and the same in every terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _version_text() -> str:
    try:
        return version("heteroscale")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heteroscale {_version_text()}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Autoscaler for prefill/decode-disaggregated LLM serving on mixed GPU fleets."""


def version_command() -> None:
    """Print the version."""
    typer.echo(f"heteroscale {_version_text()}")


for _command in (
    changing.apply,
    reading.get,
    reading.describe,
    reading.explain,
    reading.watch,
    placing.plan,
    placing.topology,
    changing.pause,
    changing.resume,
    changing.scale,
    changing.drain,
    changing.reinstate,
    changing.cordon,
    changing.uncordon,
    changing.switch_role,
    changing.delete,
):
    app.command(_command.__name__.replace("_", "-"))(_command)
app.command("version")(version_command)


def _list_program(point: EntryPoint) -> None:
    """Show the program in the help; running it is the hand-over's part, before typer is loaded."""

    def misplaced() -> None:
        name = point.name
        with_exit_code(lambda: _raise(f"`{name}` comes first: heteroscale {name} …"))

    misplaced.__name__ = point.name.replace("-", "_")
    app.command(
        point.name,
        help=handover.describe(point),
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(misplaced)


def _raise(text: str) -> None:
    raise usage(text)


for _point in handover.programs().values():
    _list_program(_point)
