"""Facts of processes that only Linux's /proc tells: start ticks, sessions, and our tag.

A pid alone names nobody for long. A pid with its start time in clock ticks since boot names one
process for ever, whatever is done to the wall clock; so that pair is what the agent keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

TAG = "HETEROSCALE_INSTANCE_ID"
HOME_TAG = "HETEROSCALE_STATE_DIR"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat, as far as it matters here."""

    pid: int
    state: str
    session: int
    start_ticks: int
    parent: int = 0

    @property
    def leads(self) -> bool:
        """Whether it leads its session."""
        return self.session == self.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie has ended and only waits for its parent."""
        return self.state not in "ZX"


def read_stat(pid: int) -> Stat | None:
    """Return the facts of ``pid``, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything, parentheses too: count from its end.
    fields = text[text.rfind(")") + 2 :].split()
    try:
        return Stat(pid, fields[0], int(fields[3]), int(fields[19]), int(fields[1]))
    except (IndexError, ValueError):
        return None


def boot_id() -> str:
    """Return the kernel's boot id; empty where it is not told."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def session_members(session: int, started_after: int) -> Iterator[Stat]:
    """Yield live processes of ``session`` that are not older than its leader was."""
    for pid in psutil.pids():
        stat = read_stat(pid)
        if (
            stat is not None
            and stat.session == session
            and stat.start_ticks >= started_after
            and stat.alive
        ):
            yield stat


def tagged(instance_id: str) -> Iterator[Stat]:
    """Yield live session leaders that carry our tag for ``instance_id`` in their environment."""
    for stat, environ in carriers():
        if stat.leads and environ[TAG] == instance_id:
            yield stat


def carriers() -> Iterator[tuple[Stat, Mapping[str, str]]]:
    """Yield every live process that carries our tag, with its environment, by pid."""
    for pid in psutil.pids():
        try:
            environ = psutil.Process(pid).environ()
        except (psutil.Error, OSError):
            # Gone meanwhile, or of another user: then it is none of ours.
            continue
        stat = read_stat(pid) if TAG in environ else None
        if stat is not None and stat.alive:
            yield stat, environ
