"""Engines as processes: start, adopt, watch, stop. They outlive the agent.

Each engine leads a session of its own and writes to a log file, so neither a signal to the agent's
group nor a closed pipe reaches it. TERM goes to the leader alone, which knows how to stop its
workers; KILL goes to the whole session. What a dead leader leaves behind is killed: it would hold
GPU memory. A start is vfork and exec in C (no code of ours runs between the two), so gRPC's threads
are never forked.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heteroscale_agent.hands import procfs
from heteroscale_agent.hands.logfiles import LogFiles

INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an instance's id may be: it names its log file."""


class SpawnError(RuntimeError):
    """The engine could not be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Ident:
    """One process for ever: its pid and when it started, in clock ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Exit:
    """A process has ended; ``code`` is negative for a signal, None when nobody could learn it."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None:
            return "its process is gone (exit code unknown)"
        if self.code < 0:
            try:
                return f"killed by {signal.Signals(-self.code).name}"
            except ValueError:
                return f"killed by signal {-self.code}"
        return f"exited with code {self.code}"


@dataclass(frozen=True, slots=True)
class Order:
    """What to start, ready to run: nothing is filled in any more."""

    instance_id: str
    command: Sequence[str]
    env: Mapping[str, str]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A running engine of this agent, by what it carries in its environment."""

    instance_id: str
    ident: Ident
    environ: Mapping[str, str]


class Processes(Protocol):
    """Starts and stops engines. All calls may block for some milliseconds, `spawn` for longer."""

    def spawn(self, order: Order) -> Ident:
        """Start an engine. Raises SpawnError."""
        ...

    def poll(self, ident: Ident) -> Exit | None:
        """Return how the process ended, or None while it runs."""
        ...

    def find(self, instance_id: str) -> Ident | None:
        """Return the running engine that carries this id as its tag, or None."""
        ...

    def scan(self) -> list[Found]:
        """Return what runs of all engines that this agent ever started; one id may stand twice."""
        ...

    def terminate(self, ident: Ident) -> None:
        """Send TERM to the leader; nothing happens when it is gone."""
        ...

    def kill(self, ident: Ident) -> None:
        """Send KILL to everything in its session, also when the leader is gone already."""
        ...

    def log_tail(self, instance_id: str) -> str:
        """Return the last lines of its log as one short line; empty when there is none."""
        ...

    def drop_logs(self, instance_ids: Iterable[str]) -> None:
        """Remove the log files of instances; one that cannot be removed stays."""
        ...

    def release(self) -> None:
        """Forget all children without touching them."""
        ...


class HostProcesses:
    """`Processes` on this host. ``log_dir`` takes one file for each instance.

    Engines are tagged with ``home``, the agent's state directory: it is locked, so several agents of
    one host have one each and do not take each other's engines.
    """

    def __init__(self, log_dir: Path, *, home: Path) -> None:
        self._logs = LogFiles(log_dir)
        self._home = str(home.resolve())
        self._children: dict[Ident, subprocess.Popen[bytes]] = {}

    def spawn(self, order: Order) -> Ident:
        """Start an engine in a session of its own, output to its log file.

        Raises:
            SpawnError: no such program or user, not permitted, or the log cannot be written.

        """
        try:
            child = self._start(order)
        except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            raise SpawnError(f"cannot start {order.command[0]!r}: {error}") from error
        # Not waited for yet, so the pid is still this process's, even if it has ended already.
        stat = procfs.read_stat(child.pid)
        ident = Ident(child.pid, stat.start_ticks if stat is not None else 0)
        self._children[ident] = child
        return ident

    def _start(self, order: Order) -> subprocess.Popen[bytes]:
        account = pwd.getpwnam(order.user) if order.user else None
        env = {**_environment(order, account), procfs.HOME_TAG: self._home}
        self._logs.folder.mkdir(parents=True, exist_ok=True)
        with self._logs.path(order.instance_id).open("ab") as log:
            if account is None:
                return subprocess.Popen(
                    list(order.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=env,
                )
            return subprocess.Popen(
                list(order.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
            )

    def poll(self, ident: Ident) -> Exit | None:
        """Return how the process ended; reaps our own children, looks at /proc for adopted ones."""
        child = self._children.get(ident)
        if child is not None:
            code = child.poll()
            if code is None:
                return None
            del self._children[ident]
            return Exit(code)
        return None if _current(ident) else Exit(None)

    def find(self, instance_id: str) -> Ident | None:
        """Scan /proc for the tag; some milliseconds for each thousand processes."""
        for stat in procfs.tagged(instance_id):
            return Ident(stat.pid, stat.start_ticks)
        return None

    def scan(self) -> list[Found]:
        """Scan /proc for tags of this agent: one for each session, the oldest first.

        Sessions whose leader runs come before what only outlived one.
        """
        found: dict[int, Found] = {}
        by_age = sorted(procfs.carriers(), key=lambda one: (not one[0].leads, one[0].start_ticks))
        for stat, environ in by_age:
            if not stat.leads and _runs(stat.session):
                continue  # its leader speaks for it, or a person's shell does
            instance_id = environ[procfs.TAG]
            ours = environ.get(procfs.HOME_TAG) == self._home
            if ours and INSTANCE_ID.fullmatch(instance_id):
                ident = Ident(stat.session, stat.start_ticks)
                found.setdefault(stat.session, Found(instance_id, ident, environ))
        return list(found.values())

    def terminate(self, ident: Ident) -> None:
        """Send TERM to the leader, if it is still that process."""
        _signal(ident, signal.SIGTERM)

    def kill(self, ident: Ident) -> None:
        """Send KILL to the leader and all of its session."""
        leader = procfs.read_stat(ident.pid)
        if leader is not None and leader.start_ticks != ident.start_ticks:
            # Another process has the pid: then the session is gone, since it keeps its number.
            return
        for stat in procfs.session_members(ident.pid, ident.start_ticks):
            _signal(Ident(stat.pid, stat.start_ticks), signal.SIGKILL)

    def log_tail(self, instance_id: str) -> str:
        """Return the last few lines of its log, printable and short."""
        return self._logs.tail(instance_id)

    def drop_logs(self, instance_ids: Iterable[str]) -> None:
        """Remove the log files of instances."""
        self._logs.drop(instance_ids)

    def release(self) -> None:
        """Forget all children; they run on."""
        for child in self._children.values():
            # Popen complains of a child left running; leaving them running is what we are for.
            child.returncode = 0
        self._children.clear()


def _environment(order: Order, account: pwd.struct_passwd | None) -> dict[str, str]:
    # The agent's own settings are none of an engine's business.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HETEROSCALE_")}
    if account is not None:
        inherited |= {
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
        }
    return {
        **inherited,
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        # Engines set their process titles with setproctitle, which would write over the tags.
        "SPT_NOENV": "1",
        **order.env,
        procfs.TAG: order.instance_id,
    }


def _runs(pid: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and stat.alive


def _current(ident: Ident) -> bool:
    stat = procfs.read_stat(ident.pid)
    return stat is not None and stat.start_ticks == ident.start_ticks and stat.alive


def _signal(ident: Ident, number: signal.Signals) -> None:
    """Send a signal to this very process; a pidfd keeps the pid from being taken meanwhile."""
    try:
        handle = os.pidfd_open(ident.pid)
    except ProcessLookupError:
        return
    except OSError:
        # A kernel without pidfds: the check right before is the next best thing.
        if _current(ident):
            with contextlib.suppress(ProcessLookupError):
                os.kill(ident.pid, number)
        return
    try:
        if _current(ident):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)
