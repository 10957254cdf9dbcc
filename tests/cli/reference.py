"""The reference part of docs/cli.md, drawn from the commands themselves.

``python -m tests.cli.reference`` (with the sources on the path) writes it; a test checks that what
stands there is what the commands say.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from heteroscale_cli import handover
from heteroscale_cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
SHARED = ("coordinator", "ca", "cert", "key", "server_name", "insecure", "timeout")


def commands() -> dict[str, Any]:
    """Return every command of our own, by name, in the order of the help."""
    every: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: item for name, item in every.items() if name in handover.OWN_COMMANDS}


def render() -> str:
    """Return the reference as Markdown."""
    parts = [_command(name, item) for name, item in commands().items()]
    parts.append(_shared(commands()["get"]))
    return "\n".join(parts)


def _command(name: str, item: Any) -> str:
    words = [f"heteroscale {name}"]
    own = [p for p in item.params if p.name not in (*SHARED, "help")]
    arguments = [p for p in own if p.param_type_name == "argument"]
    options = [p for p in own if p.param_type_name == "option"]
    words += [p.metavar or p.name.upper() for p in arguments]
    words += [f"{p.opts[0]} {p.metavar}" for p in options if p.required]
    text = inspect.cleandoc(item.help or "")
    table = [_row(p) for p in own if p.help or p.param_type_name == "option"]
    lines = [f"### `{' '.join(words)}`", "", text, ""]
    return "\n".join(lines + (["| | |", "|---|---|", *table, ""] if table else []))


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _value(parameter)}"
        name = ", ".join(f"`{flag}{value}`" for flag in sorted(parameter.opts, key=len))
    notes = []
    if parameter.envvar:
        notes.append(f"environment: `{parameter.envvar}`")
    if parameter.default not in (None, "", False) and not parameter.required:
        notes.append(f"default: `{getattr(parameter.default, 'value', parameter.default)}`")
    tail = f" ({'; '.join(notes)})" if notes else ""
    # In a table a bar ends the cell.
    return f"| {name} | {parameter.help}{tail} |".replace("|-|", "\\|-\\|").replace(
        "|live", "\\|live"
    )


def _value(parameter: Any) -> str:
    default = parameter.default
    return "FORMAT" if hasattr(default, "value") else "N"


def _shared(item: Any) -> str:
    rows = [_row(p) for p in item.params if p.name in SHARED]
    head = "### Options of every command that talks to the coordinator"
    return "\n".join([head, "", "| | |", "|---|---|", *rows, ""])


def standing() -> str:
    """Return the reference that stands in the page."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def write() -> None:
    """Put the reference into the page."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{render()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write()
