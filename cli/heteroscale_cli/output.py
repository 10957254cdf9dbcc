"""Printing: aligned tables for people, protobuf's JSON mapping for machines.

Machines get the field names of the .proto files and every field that has a value, zero included;
an optional reading that is unknown is absent, never zero.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from heteroscale_cli.text import clean
from heteroscale_cli.vocabulary import Output


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a table, with a colour for terminals."""

    text: str
    colour: str | None = None


Row = Sequence[Cell | str]
_GAP = 3


def use_colour() -> bool:
    """Return whether standard output is a terminal that wants colours (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


class Table:
    """Aligned columns that keep their widths when rows follow later, as those of a watch do."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._widths = [len(title) for title in header]
        self._header_due = True

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """Return the rows as lines; the first call begins with the header."""
        cells = [[_cell(item) for item in row] for row in rows]
        if self._header_due:
            cells.insert(0, [Cell(title) for title in self._header])
            self._header_due = False
        for row in cells:
            pairs = zip(self._widths, row, strict=True)
            self._widths = [max(width, len(cell.text)) for width, cell in pairs]
        return [self._line(row) for row in cells]

    def _line(self, row: Sequence[Cell]) -> str:
        colour = use_colour()
        parts = []
        for width, cell in zip(self._widths, row, strict=True):
            padding = " " * (width - len(cell.text) + _GAP)
            shown = typer.style(cell.text, fg=cell.colour) if colour and cell.colour else cell.text
            parts.append(shown + padding)
        return "".join(parts).rstrip()


def _cell(item: Cell | str) -> Cell:
    cell = item if isinstance(item, Cell) else Cell(item)
    return Cell(clean(cell.text), cell.colour)


def plain(message: Message) -> dict[str, Any]:
    """Return the message as plain data, with the field names of the .proto file."""
    data: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return data


def print_message(message: Message, output: Output) -> None:
    """Print one message as JSON or YAML."""
    if output is Output.YAML:
        from heteroscale.documents import write_document  # noqa: PLC0415  (tables need none of it)

        print_text(write_document(plain(message)).rstrip())
    else:
        print_text(json.dumps(plain(message), indent=2, ensure_ascii=False))


def print_line(message: Message, output: Output) -> None:
    """Print one message of an endless series: a JSON line, or a YAML document."""
    if output is Output.YAML:
        print_text("---")
        print_message(message, output)
    else:
        print_text(json.dumps(plain(message), separators=(",", ":"), ensure_ascii=False))


def print_text(text: str) -> None:
    """Print to standard output at once: a watch is often read through a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Print to standard error what is said beside the result."""
    typer.echo(text, err=True)
