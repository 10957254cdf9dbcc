"""Which requests reached which engine: how a retry is told from a first try.

A router that retries sends the same request id again, perhaps to another engine, perhaps to one that
has died since. So every simulated engine appends the ids it receives to a file of its own in one
shared folder; the files outlive the engines. An id that reached the same role twice was retried.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

MAX_ID = 128
_STARTS = "starts.txt"
_UNFIT = re.compile(r"[^\x21-\x7e]")


def clean_id(request_id: str) -> str:
    """Return ``request_id`` as it is written: printable, without blanks, at most 128 characters."""
    return _UNFIT.sub("?", request_id)[:MAX_ID]


class SeenWriter:
    """Appends ids to ``<folder>/<role>-<pid>-<port>.ids``."""

    def __init__(self, folder: Path, role: str, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._role, self._port = folder, role, port
        self._file = self._open()

    def add(self, request_id: str) -> None:
        """Append one id; the line is in the kernel's hands when this returns."""
        os.write(self._file, clean_id(request_id).encode() + b"\n")

    def play(self, role: str) -> None:
        """Append to the file of another role from now on."""
        if role != self._role:
            self.close()
            self._role = role
            self._file = self._open()

    def _open(self) -> int:
        path = self._folder / f"{self._role}-{os.getpid()}-{self._port}.ids"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def note_start(folder: Path) -> None:
    """Append this process to the folder's list of engines started, under its instance id."""
    folder.mkdir(parents=True, exist_ok=True)
    instance = os.environ.get("HETEROSCALE_INSTANCE_ID", "-")
    with (folder / _STARTS).open("a", encoding="ascii") as file:
        file.write(f"{clean_id(instance)} {os.getpid()}\n")


def starts(folder: Path) -> Counter[str]:
    """Return how many engine processes were ever started for each instance id."""
    path = folder / _STARTS
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return Counter(line.split()[0] for line in lines)


class SeenReader:
    """Reads what engines appended, each time only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._retried: set[str] = set()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def refresh(self) -> list[str]:
        """Read on, and return the ids newly found to have reached one role twice.

        A line still being written is left for the next time.
        """
        found: list[str] = []
        for path in sorted(self._folder.glob("*.ids")):
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            counts = self._counts[path.name.partition("-")[0]]
            for name in whole.decode("ascii").split():
                counts[name] += 1
                if counts[name] > 1 and name not in self._retried:
                    self._retried.add(name)
                    found.append(name)
        return found

    def counts(self, role: str) -> Mapping[str, int]:
        """Return how often each id reached ``role``."""
        return self._counts[role]

    @property
    def roles(self) -> list[str]:
        """Roles of which a file was found."""
        return sorted(self._counts)

    def tries(self, request_id: str) -> int:
        """Return the most often this id reached any one role; 0 when never."""
        name = clean_id(request_id)
        return max((counts[name] for counts in self._counts.values()), default=0)
