"""The state directory: whose it is, whether it can be written, and how the disk behaves."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.doctor.routers import records
from heteroscale_agent.identity import IdentityError, StateDirectory
from heteroscale_agent.journal import JournalError, peek

_MIB = 1 << 20
SCARCE_MIB, LITTLE_MIB = 50, 1024
SLOW_SYNC = 0.5
"""Seconds; each command waits for two syncs."""
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"}


def look(case: Case) -> Iterator[Finding]:
    """Yield all about the state directory."""
    folder = case.spec.state_dir
    if not folder.exists():
        yield _missing(folder)
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        todo = "run doctor as the agent's user (sudo), or chown the directory to it"
        yield problem("stateDir", f"{folder} is closed to us (uid {os.geteuid()})", todo)
        return
    yield _held(case, folder)
    yield from _disk(case, folder)
    yield from _journal(case, folder)


def _missing(folder: Path) -> Finding:
    parent = next((one for one in folder.parents if one.exists()), Path("/"))
    said = f"{folder} does not exist"
    if os.access(parent, os.W_OK | os.X_OK):
        return note("stateDir", f"{said}; the agent makes it at its first start", "")
    return problem(
        "stateDir", f"{said}, and {parent} is closed to us", "run as root, or set `stateDir`"
    )


def _held(case: Case, folder: Path) -> Finding:
    holder = lock_holder(case, folder / "lock")
    if holder:
        return ok("stateDir", f"{folder}, held by the agent with pid {holder}")
    return note("stateDir", f"{folder}; no agent runs on it", "systemctl start heteroscale-agent")


def lock_holder(case: Case, lock: Path) -> int:
    """Return the pid that holds an flock on a file; 0 when nobody does, or nobody can tell."""
    try:
        inode = lock.stat().st_ino
        lines = (case.proc / "locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        match line.split():
            # 1: FLOCK  ADVISORY  WRITE 4242 fe:01:131090 0 EOF
            case [_, "FLOCK", _, _, pid, place, *_] if place.rpartition(":")[2] == str(inode):
                return int(pid) if pid.isdecimal() else 0
    return 0


def _disk(case: Case, folder: Path) -> Iterator[Finding]:
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize // _MIB
    if free < SCARCE_MIB:
        yield problem(
            "disk", f"{free} MiB free", "no command is carried out on a full disk: make room"
        )
    elif free < LITTLE_MIB:
        yield note("disk", f"{free} MiB free", "engines' logs are not rotated: make room")
    else:
        yield ok("disk", f"{free // 1024} GiB free")
    kind = _file_system(case, folder)
    if kind in _NETWORK:
        yield note("file system", f"{kind}", "the lock and the syncs want a local disk")
    elif kind == "tmpfs":
        yield note("file system", "tmpfs", "after a reboot this is a new agent: use a disk")
    yield _sync(folder)


def _sync(folder: Path) -> Finding:
    began = time.monotonic()
    try:
        # The file is gone when it is closed: nothing is left behind.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"heteroscale doctor\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        todo = "commands are refused while the journal cannot be written"
        return problem("sync", f"a file there cannot be written: {error.strerror}", todo)
    took = time.monotonic() - began
    if took > SLOW_SYNC:
        return note("sync", f"took {took:.2f} s", "every command waits for it twice: a faster disk")
    return ok("sync", f"took {1000 * took:.1f} ms")


def _file_system(case: Case, folder: Path) -> str:
    """Return the type of the file system that holds a folder."""
    try:
        lines = (case.proc / "self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    holding = [("", "")]
    for line in lines:
        match line.split():
            case [_, place, kind, *_] if real.is_relative_to(place):
                holding.append((place, kind))
    return max(holding, key=lambda one: len(one[0]))[1]


def _journal(case: Case, folder: Path) -> Iterator[Finding]:
    if not (folder / "journal.jsonl").exists():
        yield note("journal", "none yet: no agent was started here", "")
        return
    try:
        ledger, damaged = peek(folder)
    except (OSError, JournalError) as error:
        yield problem("journal", str(error), "the agent will not start on it")
        return
    live = len(records(case))
    said = (
        f"epoch {ledger.epoch}, {live} live instances, {len(ledger.pending)} answers not yet heard"
    )
    if damaged:
        todo = "what they told is lost; engines are adopted from what they carry themselves"
        yield note("journal", f"{said}; {damaged} damaged lines", todo)
    else:
        yield ok("journal", said)


def logs(case: Case) -> Iterator[Finding]:
    """Yield whether engines' logs can be written, where they are set apart."""
    folder = case.spec.log_dir
    if folder is None or not case.spec.templates:
        return
    parent = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        yield problem(
            "logDir", f"{parent} is closed to us", "chown it, or mend `logDir`: no engine starts"
        )
        return
    space = os.statvfs(parent)
    free = space.f_bavail * space.f_frsize // _MIB
    said = f"{folder}, {free // 1024} GiB free"
    if free < LITTLE_MIB:
        yield note("logDir", said, "engines' logs are not rotated: make room")
    else:
        yield ok("logDir", said)


def kept_id(folder: Path) -> str:
    """Return the agent id that the directory keeps; empty when there is none to be read."""
    try:
        return StateDirectory(folder).kept_id()
    except IdentityError:
        return ""
