"""The gate of routers that read a file: the endpoints in service, written whole and renamed.

`gate.options`: `path`, below the agent's gate folder (a command names no other place to write), and
`format`: `json` (the default) or `lines`, one endpoint each. Several agents may share a file: it is
changed under a lock beside it. Entries of others are left as they are.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.shared import Desk, below, locked, read_text, write_whole

_FORMATS = ("json", "lines")


class FileGate:
    """Keeps endpoints in or out of files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._desk = Desk()

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the options, or nothing."""
        path = member.gate.options.get("path", "")
        if below(path) is None:
            return f"gate file needs a `path` below the agent's gate folder, not {path!r}"
        form = member.gate.options.get("format", "json")
        return "" if form in _FORMATS else f"gate file knows the formats {_FORMATS}, not {form!r}"

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Read the file, write it anew when it differs; what was read is returned."""
        path = self._folder / member.gate.options["path"]
        try:
            compare = partial(_compare, path, member, wanted_in=wanted_in)
            return await self._desk.do(str(path), compare)
        except OSError as error:
            return View({str(path): None}, f"{path}: {error.strerror or error}")

    async def close(self) -> None:
        """Let go of the threads; no file is held open."""
        self._desk.close()


def _compare(path: Path, member: Member, *, wanted_in: bool) -> View:
    lines = member.gate.options.get("format", "json") == "lines"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
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


def _read_lines(path: Path) -> list[dict[str, str]]:
    return [{"endpoint": line.strip()} for line in read_text(path).splitlines() if line.strip()]


def _read_json(path: Path) -> list[dict[str, str]]:
    """Return the entries; a file of nonsense has none, and everybody writes theirs again."""
    try:
        listed = json.loads(read_text(path))["endpoints"]
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
    write_whole(path, text)
