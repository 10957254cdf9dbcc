"""Reads small CSV files; what is wrong is told with file and line."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Protocol, TypeVar


class Named(Protocol):
    """Something with a name of its own."""

    @property
    def name(self) -> str:
        """By which it is found."""


T = TypeVar("T", bound=Named)


class Row(dict[str, str]):
    """A row by column; ``place`` is its file and line."""

    place: str = ""

    def __missing__(self, column: str) -> str:
        raise ValueError(f"{self.place}: no column {column!r}; it has {', '.join(self)}")


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file with a header line.

    Raises:
        ValueError: it cannot be read or is empty, or a row has too many or too few cells.

    """
    try:
        # Spreadsheets put a byte order mark before what they save.
        return _rows(path.read_text("utf-8-sig").splitlines(), str(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error


def shipped(name: str) -> list[Row]:
    """Return the rows of a table that comes with the package."""
    text = (resources.files(__package__) / "data" / name).read_text("utf-8")
    return _rows(text.splitlines(), name)


def named(file: str, folder: Path | None, make: Callable[[Row], T]) -> dict[str, T]:
    """Return what a table's rows make, by name: ``folder/file``, where it is, over the shipped one.

    Raises:
        ValueError: as ``rows_of`` and ``make`` do.

    """
    rows = shipped(file)
    own = folder / file if folder else None
    if own and own.is_file():
        rows += rows_of(own)
    return {one.name: one for one in map(make, rows)}


def number(row: Row, column: str) -> float:
    """Return a number above 0.

    Raises:
        ValueError: with file, line and column.

    """
    try:
        value = float(row[column])
    except ValueError as error:
        raise ValueError(f"{row.place}: {column}: {error}") from error
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{row.place}: {column} is {row[column]}, not a number above 0")
    return value


def whole(row: Row, column: str) -> int:
    """Return a whole number above 0.

    Raises:
        ValueError: with file, line and column.

    """
    value = number(row, column)
    if value != int(value):
        raise ValueError(f"{row.place}: {column} is {row[column]}, not a whole number")
    return int(value)


def _rows(lines: Iterable[str], file: str) -> list[Row]:
    reader = csv.DictReader(lines, restkey="", restval=None)
    if not reader.fieldnames:
        raise ValueError(f"{file}: empty, without a line of column names")
    rows: list[Row] = []
    for cells in reader:
        row = Row()
        row.place = f"{file}:{reader.line_num}"
        if "" in cells or None in cells.values():
            raise ValueError(f"{row.place}: more or fewer cells than the header has columns")
        row.update(cells)
        rows.append(row)
    return rows
