"""The gate of routers that read a file: the endpoints in service, written whole and renamed.

`gate.options`: `path`, below the agent's gate folder (a command names no other place to write), and
`format`: `json` (the default: an object whose `endpoints` are listed) or `lines`, one endpoint each.
Several agents may share a file: it is changed under a lock beside it. Of what is there, only the
entries with the instance's own endpoint are changed; all else stays as it is and where it is.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

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
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        lines = member.gate.options.get("format", "json") == "lines"
        listed: _Lines | _Json = (_Lines if lines else _Json)(read_text(path))
        own = listed.entry(member)
        mine = [one for one in listed.entries if listed.endpoint(one) == member.endpoint]
        right = mine == [own] if wanted_in else not mine
        if not right:
            kept = [one for one in listed.entries if listed.endpoint(one) != member.endpoint]
            if wanted_in:
                after = (i for i, one in enumerate(kept) if listed.endpoint(one) > member.endpoint)
                kept.insert(next(after, len(kept)), own)
            write_whole(path, listed.text(kept))
    return View({str(path): mine == [own] if wanted_in else bool(mine)})


class _Lines:
    """A file of endpoints, one a line."""

    def __init__(self, text: str) -> None:
        self.entries: list[Any] = text.splitlines()

    def entry(self, member: Member) -> Any:
        """Return the line of ``member``."""
        return member.endpoint

    def endpoint(self, entry: Any) -> str:
        """Return whose entry it is."""
        return str(entry).strip()

    def text(self, entries: list[Any]) -> str:
        """Return the file's text with ``entries`` in it."""
        return "".join(f"{entry}\n" for entry in entries)


class _Json:
    """A file that holds one JSON object with a list of `endpoints`; of another it is begun anew."""

    def __init__(self, text: str) -> None:
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        self._root: dict[str, Any] = told if isinstance(told, dict) else {}
        listed = self._root.get("endpoints")
        self.entries: list[Any] = listed if isinstance(listed, list) else []

    def entry(self, member: Member) -> Any:
        """Return the entry of ``member``."""
        return {
            "endpoint": member.endpoint,
            "instance_id": member.instance_id,
            "role": member.role.value,
        }

    def endpoint(self, entry: Any) -> str:
        """Return whose entry it is; empty when it is nobody's that could be known here."""
        told = entry.get("endpoint") if isinstance(entry, dict) else None
        return told if isinstance(told, str) else ""

    def text(self, entries: list[Any]) -> str:
        """Return the file's text with ``entries`` in it."""
        return json.dumps({**self._root, "endpoints": entries}, indent=1) + "\n"
