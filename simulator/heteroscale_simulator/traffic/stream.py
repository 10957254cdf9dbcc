"""Reads recordings of any size: block by block, in order, in memory that does not grow.

Rows that stand up to ``WINDOW`` rows too late are put in order; later ones are refused, because to
sort them would need the whole file in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.formats import Format, format_of
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.opening import Opening, Progress, head, opened
from heteroscale_simulator.traffic.rows import Rows, TraceError, checked

WINDOW = 100_000
"""Rows within which disorder is mended."""
MAX_SECONDS = 60 * 86400.0
"""The longest recording; arrivals are held by the second."""


@dataclass
class Notices:
    """What a reader did to a recording beyond reading it."""

    rows: int = 0
    zero_lengths: int = 0
    """Prompts or outputs of no tokens, read as 1."""
    disordered: int = 0
    """Rows that stood behind a later one."""
    shift: float = 0.0
    """Seconds taken off every time."""

    def sentences(self) -> tuple[str, ...]:
        """Return what a person should know."""
        said = []
        if self.zero_lengths:
            said.append(
                f"lengths of zero tokens that were read as one token: {self.zero_lengths:,}"
            )
        if self.disordered:
            said.append(f"rows that stood out of order and were sorted: {self.disordered:,}")
        if self.shift:
            said.append(f"times were moved back by {self.shift:,.0f} s, so that they start at 0")
        return tuple(said)


def stream_trace(
    path: Path, notices: Notices | None = None, progress: Progress | None = None
) -> Iterator[Rows]:
    """Yield a recording's requests in order of time, in pieces of some 100,000 rows.

    Times start at the recording's own first time if that is within 60 days of 0; moments (Azure's
    column, seconds since 1970) are moved so that the first is at 0.

    Raises:
        TraceError: no such file, an unknown format, a value or an order that makes no sense.

    """
    seen = notices if notices is not None else Notices()
    with opened(path, progress) as file:
        yield from requests(head(file, str(path)), seen)


def read(file: Opening, notices: Notices) -> tuple[Format, Iterator[Rows]]:
    """Return the format, and checked rows as they stand in the file.

    Raises:
        TraceError: an unknown format; or, as the rows are taken, one that names file, line, field.

    """
    form = format_of(file.text, file.name)
    first = [] if form.header else [(1, file.first + b"\n")]
    return form, _checked(form, chain(first, file.blocks), file.name, notices)


def _checked(
    form: Format, blocks: Iterator[tuple[int, bytes]], name: str, notices: Notices
) -> Iterator[Rows]:
    for line, block in blocks:
        rows, zeros = checked(_parsed(form, block, line, name), name, form.fields)
        notices.zero_lengths += zeros
        notices.rows += len(rows)
        if not form.dated and len(rows) and rows.at.min() < 0:
            where = int(np.argmax(rows.at < 0))
            found = f"{name}:{rows.line[where]}: {form.fields[0]} is {rows.at[where]:g}"
            raise TraceError(f"{found}: negative; seconds from the start are 0 or more")
        yield rows


def _parsed(form: Format, block: bytes, line: int, name: str) -> Rows:
    if block.strip():
        try:
            at, prompt, output = form.bulk(block)
        except ValueError:
            pass
        else:
            count = block.count(b"\n")
            if len(at) == count:
                return Rows(at, prompt, output, np.arange(line, line + count))
    found = list(form.one_by_one(block, line, name))
    table = np.array([row[1:] for row in found], dtype=np.float64).reshape(-1, 3)
    lines = np.array([row[0] for row in found], dtype=np.int64)
    return Rows(table[:, 0], table[:, 1], table[:, 2], lines)


def requests(file: Opening, notices: Notices) -> Iterator[Rows]:
    """Yield rows in order of time, starting at 0 or at the recording's own start.

    Raises:
        TraceError: as ``read``; disorder beyond the window; a recording of more than 60 days.

    """
    form, pieces = read(file, notices)
    name = file.name
    waiting: list[Rows] = []
    held, newest, passed = 0, -np.inf, -np.inf
    origin: float | None = None
    for piece in _and_end(pieces):
        if piece is not None:
            _refuse_late(piece, passed, form, name)
            newest = _count_disorder(piece.at, newest, notices)
            waiting.append(piece)
            held += len(piece)
            if held < 2 * WINDOW:
                continue
        if not held:
            continue
        rows = _sorted(Rows.joined(waiting))
        cut = len(rows) - (WINDOW if piece is not None else 0)
        ready, waiting = rows.take(slice(0, cut)), [rows.take(slice(cut, None))]
        held = len(rows) - cut
        passed = float(ready.at[-1])
        if origin is None:
            origin = _origin(float(ready.at[0]), form)
            notices.shift = origin
        yield _from_zero(ready, origin, form, name)


def _and_end(pieces: Iterator[Rows]) -> Iterator[Rows | None]:
    yield from pieces
    yield None


def _refuse_late(piece: Rows, passed: float, form: Format, name: str) -> None:
    late = piece.at < passed
    if late.any():
        where = int(np.argmax(late))
        raise TraceError(
            f"{name}:{piece.line[where]}: {form.fields[0]} lies {passed - piece.at[where]:,.3f} s "
            f"before rows that stand more than {WINDOW:,} rows above it; sort the file by time"
        )


def _count_disorder(at: Floats, newest: float, notices: Notices) -> float:
    if not len(at):
        return newest
    highest = np.maximum.accumulate(np.concatenate(([newest], at)))
    notices.disordered += int(np.count_nonzero(at < highest[:-1]))
    return float(highest[-1])


def _sorted(rows: Rows) -> Rows:
    if np.all(rows.at[1:] >= rows.at[:-1]):
        return rows
    return rows.take(np.argsort(rows.at, kind="stable"))


def _origin(first: float, form: Format) -> float:
    return first if form.dated or first >= MAX_SECONDS else 0.0


def _from_zero(rows: Rows, origin: float, form: Format, name: str) -> Rows:
    at = rows.at - origin
    if at[-1] >= MAX_SECONDS:
        where = int(np.argmax(at >= MAX_SECONDS))
        raise TraceError(
            f"{name}:{rows.line[where]}: {form.fields[0]} is {at[where] / 86400:,.1f} days after the "
            f"start; at most {MAX_SECONDS / 86400:.0f} days are played. Are the times in milliseconds? "
            "Else cut the file"
        )
    return Rows(at, rows.input_tokens, rows.output_tokens, rows.line)
