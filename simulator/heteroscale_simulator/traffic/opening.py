"""Opens recordings of any size: gzip told by its first bytes, whole lines in blocks of a few MiB."""

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

from heteroscale_simulator.traffic.rows import TraceError

BLOCK = 4 << 20
"""Bytes of text read at a time; also more than any one line may have."""
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


@dataclass(frozen=True)
class Opening:
    """A file whose first line has been read."""

    name: str
    """For errors."""
    first: bytes
    """The first line, without its end; it is UTF-8."""
    blocks: Iterator[tuple[int, bytes]]
    """Blocks of whole lines after it, each with the number of its first line."""

    @property
    def text(self) -> str:
        """The first line."""
        return self.first.decode("utf-8")


def head(file: Readable, name: str) -> Opening:
    """Read a file's first line.

    Raises:
        TraceError: empty, or not text.

    """
    pieces = _blocks(file, name)
    line, block = next(pieces, (1, b""))
    first, _, rest = block.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if not first.strip():
        raise TraceError(f"{name}: empty, or its first line is")
    try:
        first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(f"{name}:1: not text: {error}; is this the right file?") from error
    return Opening(name, first, chain([(line + 1, rest)], pieces))


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
        why = "the gzip stream breaks off some way after this line: copy the file again"
        raise TraceError(f"{name}:{line}: {why}") from error
