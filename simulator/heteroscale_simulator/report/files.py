"""Files that are there whole or not at all: written beside their place, then moved into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class UnwritableError(ValueError):
    """A path cannot be written to; the message says why and what would do."""


def check_file(path: Path, option: str) -> None:
    """Find out before an hour of work whether ``path`` can be written.

    Raises:
        UnwritableError: it is a folder, its folder is missing, or the system forbids it.

    """
    if path.is_dir():
        raise UnwritableError(f"{option} {path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        return  # a device or a pipe
    _check_place(path.resolve().parent, f"{option} {path}")


def check_folder(path: Path, option: str) -> None:
    """Find out whether files can be put into ``path``, which is made if its parent exists.

    Raises:
        UnwritableError: it is a file, its parent is missing, or the system forbids it.

    """
    if path.exists() and not path.is_dir():
        raise UnwritableError(f"{option} {path}: is a file; name a folder")
    _check_place(path if path.is_dir() else path.resolve().parent, f"{option} {path}")


def _check_place(folder: Path, what: str) -> None:
    """Try to put a file there: permissions alone do not tell, for root or on a full disk."""
    if not folder.is_dir():
        raise UnwritableError(f"{what}: there is no folder {folder}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnwritableError(
            f"{what}: cannot be written ({error.strerror}); choose another place"
        ) from error


class Batch:
    """Files that appear together: used as a context, they are moved into place at its good end.

    An exception, Ctrl-C included, leaves nothing behind.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Path, Path]] = []
        self._folders: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def open(self, path: Path) -> IO[str]:
        """Open a new text file that will stand at ``path``; the caller closes it.

        Raises:
            UnwritableError: the system forbids it.

        """
        place = path.resolve()  # a link stays one
        try:
            if place.exists() and not place.is_file():  # a device or a pipe, which none may replace
                return place.open("w", encoding="utf-8", newline="")
            handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        except OSError as error:
            raise UnwritableError(f"{path}: {error.strerror}") from error
        self._pending.append((Path(name), place))
        return os.fdopen(handle, "w", encoding="utf-8", newline="")

    def folder(self, path: Path) -> None:
        """Make a folder, unless it is there.

        Raises:
            UnwritableError: the system forbids it.

        """
        try:
            if not path.is_dir():
                path.mkdir()
                self._folders.append(path)
        except OSError as error:
            raise UnwritableError(f"{path}: {error.strerror}") from error

    def write(self, path: Path, parts: Iterable[str]) -> None:
        """Write a whole text file that will stand at ``path``."""
        with self.open(path) as file:
            file.writelines(parts)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        good = kind is None
        while self._pending:
            made, place = self._pending.pop(0)
            if not good:
                made.unlink(missing_ok=True)
                continue
            made.chmod(_mode())
            made.replace(place)
        for folder in () if good else self._folders:
            folder.rmdir()


def _mode() -> int:
    """Return the mode that an ordinary new file would have; a temporary one is private."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
