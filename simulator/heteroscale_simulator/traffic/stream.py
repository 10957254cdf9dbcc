"""Reads recordings of any size: block by block, in order, in memory that does not grow.

Rows that stand up to ``WINDOW`` rows too late are put in order; later ones are refused, because to
sort them would need the whole file in memory.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from heteroscale_simulator.traffic.formats import Format, format_of
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.rows import Rows, TraceError, checked

BLOCK = 4 << 20
"""Bytes of text read at a time; also more than any one line may have."""
WINDOW = 100_000
"""Rows within which disorder is mended."""
MAX_SECONDS = 60 * 86400.0
"""The longest recording; arrivals are held by the second."""
GZIP_MAGIC = b"\x1f\x8b"
OTHER_MAGIC = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
}

Progress = Callable[[float], None]
"""Is told what share of the file has been read, 0 to 1."""


class Readable(Protocol):
    """Bytes to read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


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
        form, blocks = start(file, str(path))
        yield from in_order(read(form, blocks, str(path), seen), form, str(path), seen)


@contextmanager
def opened(path: Path, progress: Progress | None = None) -> Iterator[Readable]:
    """Open a file, unpacking it if it is gzip by its first bytes; say errors in words.

    Raises:
        TraceError: it cannot be opened, or is packed otherwise, or breaks off while it is read.

    """
    try:
        with path.open("rb") as raw:
            magic = raw.peek(6)[:6]
            for start_bytes, what in OTHER_MAGIC.items():
                if magic.startswith(start_bytes):
                    raise TraceError(f"{path}: a {what} file; give plain text or gzip")
            told = _Told(raw, path.stat().st_size, progress)
            if magic.startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=told) as unpacked:
                    yield unpacked
            else:
                yield told
    except IsADirectoryError as error:
        raise TraceError(f"{path}: a folder; give one file") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{path}: its gzip stream is damaged ({error})") from error
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from error


class _Told(io.RawIOBase):
    """A file that tells how far it has been read."""

    def __init__(self, raw: IO[bytes], size: int, progress: Progress | None) -> None:
        self._raw, self._size, self._progress = raw, max(1, size), progress
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self._done += len(data)
        if self._progress is not None:
            self._progress(min(1.0, self._done / self._size))
        return data


def head(file: Readable, name: str) -> tuple[str, bytes, Iterator[tuple[int, bytes]]]:
    """Return the first line as text and as bytes, and the blocks of whole lines after it.

    A block comes with the number of its first line.

    Raises:
        TraceError: empty, or not text.

    """
    pieces = _blocks(file, name)
    line, block = next(pieces, (1, b""))
    first, _, rest = block.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if not first.strip():
        raise TraceError(f"{name}: empty, or its first line is")
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(f"{name}:1: not text: {error}; is this the right file?") from error
    return text, first, chain([(line + 1, rest)], pieces)


def start(file: Readable, name: str) -> tuple[Format, Iterator[tuple[int, bytes]]]:
    """Return the format, and the blocks of whole lines that hold requests.

    Raises:
        TraceError: empty, or an unknown format.

    """
    text, first, blocks = head(file, name)
    form = format_of(text, name)
    return form, blocks if form.header else chain([(1, first + b"\n")], blocks)


def _blocks(file: Readable, name: str) -> Iterator[tuple[int, bytes]]:
    line, left = 1, b""
    while data := _next(file, line, name):
        data = left + data
        end = data.rfind(b"\n") + 1
        block, left = data[:end], data[end:]
        if len(left) > BLOCK:
            raise TraceError(f"{name}:{line}: a line of more than {BLOCK:,} bytes; is this text?")
        if block:
            yield line, block
            line += block.count(b"\n")
    if left:
        yield line, left + b"\n"


def _next(file: Readable, line: int, name: str) -> bytes:
    try:
        return file.read(BLOCK)
    except EOFError as error:
        where = f"{name}:{line}: not far behind this line"
        raise TraceError(f"{where} its gzip stream breaks off: copy the file again") from error


def read(
    form: Format, blocks: Iterator[tuple[int, bytes]], name: str, notices: Notices
) -> Iterator[Rows]:
    """Yield checked rows as they stand in the file.

    Raises:
        TraceError: naming file, line and field.

    """
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


def in_order(pieces: Iterator[Rows], form: Format, name: str, notices: Notices) -> Iterator[Rows]:
    """Yield rows in order of time, starting at 0 or at the recording's own start.

    Raises:
        TraceError: disorder beyond the window, or a recording of more than 60 days.

    """
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
