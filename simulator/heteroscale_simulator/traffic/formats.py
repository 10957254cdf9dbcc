"""The formats of recordings, told apart by their first line; each read in blocks of lines at once.

- ``t_s,input_tokens,output_tokens`` (CSV)
- Azure's ``TIMESTAMP,ContextTokens,GeneratedTokens`` (CSV; date and time, any number of decimals)
- Mooncake's JSON lines with ``timestamp`` in milliseconds, ``input_length``, ``output_length``

Columns may stand in any order, and others beside them. A block is parsed in bulk; a block that does
not parse so is read again line by line, which is slow and finds out which line is wrong.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.rows import COLUMNS, TraceError

Columns = tuple[Floats, Floats, Floats]
Row = tuple[int, float, float, float]

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE = ("timestamp", "input_length", "output_length")
KNOWN = (
    "t_s,input_tokens,output_tokens; Azure's CSV with TIMESTAMP,ContextTokens,GeneratedTokens; "
    "Mooncake's JSON lines with timestamp,input_length,output_length"
)
STAMP = np.dtype([("t", "S40"), ("i", "f8"), ("o", "f8")])
WHOLE_STAMP = 19
"""Characters of a date and time without decimals."""


class Format(Protocol):
    """How one kind of file is read."""

    fields: Sequence[str]
    """What it calls time, prompt and output length."""
    header: bool
    """The first line is no request."""
    dated: bool
    """Times are moments, not seconds from the start."""

    def bulk(self, block: bytes) -> Columns:
        """Return the columns of whole lines. Raises ValueError where they cannot be read so."""

    def one_by_one(self, block: bytes, line: int, name: str) -> Iterator[Row]:
        """Yield line, seconds and lengths; ``line`` is the block's first. Raises TraceError."""


class PlainCsv:
    """Numbers under named columns."""

    dated = False
    header = True

    def __init__(self, columns: Sequence[str], fields: Sequence[str] = COLUMNS) -> None:
        self.fields = fields
        self._where = tuple(columns.index(field) for field in fields)

    def bulk(self, block: bytes) -> Columns:
        """Return the columns of whole lines."""
        table = np.loadtxt(
            io.BytesIO(block),
            delimiter=",",
            usecols=self._where,
            comments=None,
            quotechar='"',
            ndmin=2,
        )
        return table[:, 0], table[:, 1], table[:, 2]

    def one_by_one(self, block: bytes, line: int, name: str) -> Iterator[Row]:
        """Yield line, seconds and lengths."""
        reader = csv.reader(io.StringIO(_text(block, line, name)))
        try:
            for cells in reader:
                if cells:
                    yield self._row(cells, line - 1 + reader.line_num, name)
        except csv.Error as error:
            raise TraceError(f"{name}:{line - 1 + reader.line_num}: {error}") from error

    def _row(self, cells: list[str], line: int, name: str) -> Row:
        numbers = []
        for field, where in zip(self.fields, self._where, strict=True):
            if where >= len(cells):
                found = f"{len(cells)} of at least {where + 1} columns"
                raise TraceError(f"{name}:{line}: {field} is missing ({found})")
            try:
                numbers.append(self._number(field, cells[where].strip()))
            except ValueError:
                what = self._wanted(field)
                raise TraceError(
                    f"{name}:{line}: {field} is {cells[where]!r}: not {what}"
                ) from None
        at, prompt, output = numbers
        return line, at, prompt, output

    def _number(self, field: str, text: str) -> float:  # noqa: ARG002 - others look at it
        return float(text)

    def _wanted(self, field: str) -> str:
        return "a number of seconds" if field == self.fields[0] else "a number of tokens"


class AzureCsv(PlainCsv):
    """Moments instead of seconds."""

    dated = True

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns, AZURE)

    def bulk(self, block: bytes) -> Columns:
        """Return the columns of whole lines; only times in UTC are read so."""
        table = np.loadtxt(
            io.BytesIO(block.replace(b"+00:00", b"")),
            delimiter=",",
            usecols=self._where,
            comments=None,
            quotechar='"',
            dtype=STAMP,
            ndmin=1,
        )
        letters = np.ascontiguousarray(table["t"]).view(np.uint8).reshape(len(table), -1)
        whole = np.ascontiguousarray(letters[:, :WHOLE_STAMP]).view(f"S{WHOLE_STAMP}")[:, 0]
        width = letters.shape[1] - WHOLE_STAMP
        rest = np.ascontiguousarray(letters[:, WHOLE_STAMP:]).view(f"S{width}")[:, 0]
        after = letters[:, WHOLE_STAMP]
        strange = (after != 0) & (after != ord(".")) | np.any(
            letters[:, [4, 7]] != ord("-"), axis=1
        )
        if strange.any():
            raise ValueError("another time zone, or none of the usual forms")
        moments = whole.astype("U19").astype("M8[s]")
        if np.isnat(moments).any():
            raise ValueError("not a time")
        parts = np.where(rest == b"", b"0", rest).astype(np.float64)
        return moments.astype(np.int64) + parts, table["i"], table["o"]

    def _number(self, field: str, text: str) -> float:
        return _moment(text) if field == self.fields[0] else float(text)

    def _wanted(self, field: str) -> str:
        return (
            "a time such as 2023-11-16 18:15:46.68"
            if field == self.fields[0]
            else super()._wanted(field)
        )


class MooncakeLines:
    """JSON objects, one a line; milliseconds."""

    fields: Sequence[str] = MOONCAKE
    header = False
    dated = False
    _usual = re.compile(
        rb'^\{"timestamp": ?(-?[0-9.]+), ?"input_length": ?(-?[0-9]+), ?'
        rb'"output_length": ?(-?[0-9]+)(?:, ?"[^\n]*)?\}\r?$',
        re.MULTILINE,
    )

    def bulk(self, block: bytes) -> Columns:
        """Return the columns of whole lines, of those in the publisher's own order of keys."""
        found = self._usual.findall(block)
        if not found:
            raise ValueError("keys in another order")
        table = np.array(found).astype(np.float64)
        return table[:, 0] / 1000, table[:, 1], table[:, 2]

    def one_by_one(self, block: bytes, line: int, name: str) -> Iterator[Row]:
        """Yield line, seconds and lengths."""
        for number, text in enumerate(_text(block, line, name).split("\n"), line):
            if text.strip():
                at, prompt, output = self._row(text, number, name)
                yield number, at / 1000, prompt, output

    def _row(self, text: str, line: int, name: str) -> list[float]:
        try:
            row = json.loads(text)
        except ValueError as error:
            raise TraceError(f"{name}:{line}: not a JSON object on one line: {error}") from error
        if not isinstance(row, dict):
            raise TraceError(f"{name}:{line}: a {type(row).__name__}, not a JSON object")
        values = []
        for field in self.fields:
            value = row.get(field)
            if isinstance(value, bool) or not isinstance(value, int | float):
                what = "is missing" if field not in row else f"is {value!r}: not a number"
                raise TraceError(f"{name}:{line}: {field} {what}")
            values.append(float(value))
        return values


def format_of(first: str, name: str) -> Format:
    """Return the format that a file's first line shows.

    Raises:
        TraceError: none of those known; columns that are missing are named.

    """
    if first.lstrip().startswith("{"):
        return MooncakeLines()
    columns = header_of(first)
    if set(COLUMNS) <= set(columns):
        return PlainCsv(columns)
    if set(AZURE) <= set(columns):
        return AzureCsv(columns)
    for fields in (COLUMNS, AZURE):
        missing = [field for field in fields if field not in columns]
        if len(missing) < len(fields):
            wants = ", ".join(missing)
            raise TraceError(f"{name}:1: no column {wants} (found: {', '.join(columns)})")
    raise TraceError(f"{name}:1: unknown format: {first.strip()[:60]!r} (known: {KNOWN})")


def header_of(first: str) -> list[str]:
    """Return the names in a CSV's first line."""
    return [column.strip().strip('"') for column in first.strip().split(",")]


def _moment(text: str) -> float:
    """Return seconds since 1970; UTC where no zone is said; ``fromisoformat`` keeps 6 decimals."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _text(block: bytes, line: int, name: str) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        where = line + block.count(b"\n", 0, error.start)
        raise TraceError(f"{name}:{where}: not text: {error}; is this the right file?") from error
