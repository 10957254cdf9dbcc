"""What ``apply -f`` reads: files, folders of YAML, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heteroscale_cli.errors import usage

MAX_BYTES = 1024 * 1024
"""The coordinator reads no longer document; it is said here before it is sent."""
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML text and the name it has in errors."""

    name: str
    text: str


def read(names: Sequence[str]) -> list[Source]:
    """Read everything named; a folder gives its ``*.yaml`` and ``*.yml``, in order of name.

    Raises:
        CliError: nothing there, unreadable, too long, or no UTF-8.

    """
    if list(names).count("-") > 1:
        raise usage("-f -: standard input can be read once")
    return [source for name in names for source in _read(name)]


def _read(name: str) -> Iterator[Source]:
    if name == "-":
        yield Source("<stdin>", _decoded("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1)))
        return
    path = Path(name)
    if not path.is_dir():
        yield _file(path)
        return
    files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if not files:
        raise usage(f"{path}: no *.yaml or *.yml file in this folder")
    yield from map(_file, files)


def _file(path: Path) -> Source:
    try:
        with path.open("rb") as stream:
            return Source(str(path), _decoded(str(path), stream.read(MAX_BYTES + 1)))
    except OSError as error:
        raise usage(f"{path}: {error.strerror or error}") from error


def _decoded(name: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise usage(f"{name}: longer than {MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise usage(f"{name}: not UTF-8 text (byte {error.start})") from error
