"""The gate of proxies that include a file of servers: nginx, and HAProxy without its socket.

`gate.options`: `upstream` names one of the agent's configuration. Under the file's lock a pass looks
whether the file is right and whether the proxy has loaded it as it is, writes what differs, checks,
and reloads. A mark beside the file says which text was loaded last, so any number of agents on the
host reload once for each change, and one that was restarted knows where it stands.

A reload is only a signal: nginx answers 0 and may still find fault with the new configuration, and
go on with the old one. So with `pidFile` it counts when new workers are there, and for nginx all
old ones were told to end: those finish what they have, and take nothing new.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from heteroscale_agent.config.gates import Upstream
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.shared import Desk, locked, read_text, write_whole

MARK = "# heteroscale:"
"""Begins the comment of a line of ours; the instance and its endpoint follow."""
NOBODY = f"{MARK} nobody is in"
LINES = {"nginx": "server {host}:{port};", "haproxy": "server {name} {host}:{port} check"}
EMPTY = {"nginx": "server 127.0.0.1:1 down;", "haproxy": ""}
_LOOK = 0.05
"""Seconds between looks for new workers."""


class UpstreamFileGate:
    """Keeps servers in or out of the files that the configuration names."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._desk = Desk()

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the options, or nothing."""
        name = member.gate.options.get("upstream", "")
        if not name:
            return "gate upstream-file needs the option `upstream`"
        if name not in self._upstreams:
            return f"no upstream {name[:80]!r} in the agent's configuration (gates.upstreams)"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Look at the file, correct and reload; what was seen before is returned."""
        upstream = self._upstreams[member.gate.options["upstream"]]
        place = str(upstream.path)
        # Lock, check, reload and the look for new workers, each with its own end.
        limit = 3 * upstream.timeout + 2
        compare = partial(_compare, upstream, member, wanted_in=wanted_in)
        try:
            return await self._desk.do(place, compare, limit)
        except BlockingIOError:
            return View({place: None}, f"{place}: another agent is at it")
        except (OSError, ReloadError) as error:
            return View(
                {place: None}, f"{place}: {getattr(error, 'strerror', None) or error}"[:600]
            )

    async def close(self) -> None:
        """Let go of the threads; files and proxies stay as they are."""
        self._desk.close()


class ReloadError(RuntimeError):
    """The proxy did not load the file; the text says why."""


def _compare(upstream: Upstream, member: Member, *, wanted_in: bool) -> View:
    path = upstream.path
    with locked(path):
        before = read_text(path)
        loaded = path.exists() and _loaded(path) == _digest(before) and _runs(upstream)
        listed = line_of(upstream, member) in before.splitlines()
        own = [line for line in before.splitlines() if _is_mine(line, member)]
        after = render(upstream, before, member, wanted_in=wanted_in)
        if after != before or not path.exists():
            write_whole(path, after)
        if not loaded or after != before:
            _reload(upstream, after)
    if not loaded:
        # It may have been read in any state since; the next pass sees what was loaded now.
        return View({str(path): None})
    return View({str(path): listed and len(own) == 1 if wanted_in else bool(own)})


def render(upstream: Upstream, text: str, member: Member, *, wanted_in: bool) -> str:
    """Return ``text`` with or without the line of ``member``; lines of others stay in their place."""
    lines = text.splitlines() if text else list(upstream.header)
    own = line_of(upstream, member)
    stays = wanted_in and [line for line in lines if _is_mine(line, member)] == [own]
    kept = [
        line
        for line in lines
        if not line.endswith(NOBODY) and (stays or not _is_mine(line, member))
    ]
    if wanted_in and not stays:
        kept.append(own)
    if not any(_is_server(line) for line in kept):
        empty = EMPTY[upstream.format] if upstream.empty is None else upstream.empty
        if empty:
            kept.append(f"{empty} {NOBODY}")
    return "".join(f"{line}\n" for line in kept)


def line_of(upstream: Upstream, member: Member) -> str:
    """Return the line of ``member``, with the comment that says whose it is."""
    line = upstream.line or LINES[upstream.format]
    for name, value in values(member).items():
        line = line.replace(f"{{{name}}}", value)
    return f"{line} {MARK} {member.instance_id} {member.endpoint}"


def values(member: Member) -> dict[str, str]:
    """Return what templates may use."""
    at = urlsplit(member.endpoint)
    host = at.hostname or ""
    return {
        "endpoint": member.endpoint,
        "host": f"[{host}]" if ":" in host else host,
        "port": str(at.port or (443 if at.scheme == "https" else 80)),
        "instance_id": member.instance_id,
        "name": f"heteroscale-{member.instance_id}",
        "role": member.role.value,
        "service": member.service,
    }


def _is_mine(line: str, member: Member) -> bool:
    """Return whether a line is this instance's, or that of an older one that had its endpoint."""
    _, mark, told = line.partition(f" {MARK} ")
    owner, _, endpoint = told.partition(" ")
    return bool(mark) and (owner == member.instance_id or endpoint == member.endpoint)


def _is_server(line: str) -> bool:
    return line.split("#", 1)[0].strip().startswith(("server ", "server-template "))


# ---- loading ----


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".loaded")


def _loaded(path: Path) -> str:
    """Return the digest of the text that the proxy loaded last, or nothing."""
    try:
        told = json.loads(read_text(_mark(path)))
        return str(told["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _reload(upstream: Upstream, text: str) -> None:
    """Check and reload, see it done, and leave the mark. Raises ReloadError."""
    _mark(upstream.path).unlink(missing_ok=True)
    if upstream.check:
        _run(upstream.check, upstream.timeout)
    before = _workers(upstream)
    _run(upstream.reload, upstream.timeout)
    if upstream.pid_file is not None:
        _await_workers(upstream, before)
    write_whole(_mark(upstream.path), json.dumps({"sha256": _digest(text)}) + "\n")


def _await_workers(upstream: Upstream, before: frozenset[int]) -> None:
    until = time.monotonic() + upstream.timeout
    while not _renewed(upstream, before):
        if time.monotonic() > until:
            raise ReloadError(
                f"{upstream.reload[0]} was asked to reload, and no new workers came within "
                f"{upstream.timeout:g} s: see its log"
            )
        threading.Event().wait(_LOOK)


def _runs(upstream: Upstream) -> bool:
    """Return whether the proxy is there, as far as it can be told."""
    return upstream.pid_file is None or bool(_workers(upstream))


def _renewed(upstream: Upstream, before: frozenset[int]) -> bool:
    now = _workers(upstream)
    if upstream.format == "nginx":
        return bool(now) and not now & before
    return bool(now - before)


def _workers(upstream: Upstream) -> frozenset[int]:
    """Return the pids of the master's workers, of nginx only those that take new requests."""
    if upstream.pid_file is None:
        return frozenset()
    try:
        master = int(read_text(upstream.pid_file).split()[0])
        listed = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii")
    except (OSError, ValueError, IndexError):
        return frozenset()
    return frozenset(pid for pid in map(int, listed.split()) if not _is_leaving(pid))


def _is_leaving(pid: int) -> bool:
    try:
        return b"is shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def _run(command: tuple[str, ...], limit: float) -> None:
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            _finish(process, command, limit)
    except OSError as error:
        raise ReloadError(f"{command[0]}: {error.strerror or error}") from error


def _finish(process: subprocess.Popen[bytes], command: tuple[str, ...], limit: float) -> None:
    try:
        _, told = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise ReloadError(f"{command[0]}: took longer than {limit:g} s") from None
    if process.returncode:
        # The first words say what is wrong; the last ones only that something is.
        said = " ".join(told[:400].decode("utf-8", errors="replace").split())[:300]
        raise ReloadError(f"{command[0]}: exit code {process.returncode}: {said}")
