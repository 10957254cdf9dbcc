"""The gate of routers that read a file: the endpoints in service, written whole and renamed.

`gate.options`: `path`, below the agent's gate folder (a command names no other place to write), and
`format`: `json` (the default) or `lines`, one endpoint each. Several agents may share a file: it is
changed under a lock beside it. Entries of others are left as they are.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from heteroscale_agent.hands.gates.port import Member, View

MAX_FILE_BYTES = 4 * 1024 * 1024
_FORMATS = ("json", "lines")


class FileGate:
    """Keeps endpoints in or out of files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the options, or nothing."""
        path = PurePosixPath(member.gate.options.get("path", ""))
        if not path.name or path.is_absolute() or ".." in path.parts:
            return f"gate file needs a `path` below the agent's gate folder, not {str(path)!r}"
        form = member.gate.options.get("format", "json")
        return "" if form in _FORMATS else f"gate file knows the formats {_FORMATS}, not {form!r}"

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Read the file, write it anew when it differs; what was read is returned."""
        path = self._folder / member.gate.options["path"]
        try:
            return await asyncio.to_thread(_compare, path, member, wanted_in=wanted_in)
        except OSError as error:
            return View({str(path): None}, f"{path}: {error.strerror or error}")

    async def close(self) -> None:
        """Do nothing: no file is held open."""


def _compare(path: Path, member: Member, *, wanted_in: bool) -> View:
    lines = member.gate.options.get("format", "json") == "lines"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        entries = _read_lines(path) if lines else _read_json(path)
        others = [e for e in entries if e["endpoint"] != member.endpoint]
        mine = [e for e in entries if e["endpoint"] == member.endpoint]
        own = {"endpoint": member.endpoint}
        if not lines:
            own |= {"instance_id": member.instance_id, "role": member.role.value}
        right = mine == [own] if wanted_in else not mine
        if not right:
            _write(path, [*others, own] if wanted_in else others, lines=lines)
    return View({str(path): mine == [own] if wanted_in else bool(mine)})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(path.name + ".lock").open("a") as lock:
        # Not waited for: whoever holds it may be stopped. The next pass tries again.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _read_lines(path: Path) -> list[dict[str, str]]:
    return [{"endpoint": line.strip()} for line in _read(path).splitlines() if line.strip()]


def _read_json(path: Path) -> list[dict[str, str]]:
    """Return the entries; a file of nonsense has none, and everybody writes theirs again."""
    try:
        listed = json.loads(_read(path))["endpoints"]
        return [
            {str(k): str(v) for k, v in entry.items()} for entry in listed if "endpoint" in entry
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _write(path: Path, entries: list[dict[str, str]], *, lines: bool) -> None:
    ordered = sorted(entries, key=lambda entry: entry["endpoint"])
    if lines:
        text = "".join(entry["endpoint"] + "\n" for entry in ordered)
    else:
        text = json.dumps({"endpoints": ordered}, indent=1) + "\n"
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
