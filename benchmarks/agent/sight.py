"""What /proc tells of a process: its CPU time and its memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME = 11
"""Place of utime among the fields of /proc/PID/stat after the name; stime follows."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A process at one moment. Memory in MiB."""

    at: float
    cpu: float
    """Seconds of user and system time since its start, all threads, in steps of 10 ms."""
    rss: float
    """What `ps` and `top` show: every page that is present, shared ones too."""
    anon: float
    """The part of `rss` that is the process's own: heap, stacks, what it changed."""
    peak: float
    """The highest `rss` ever."""
    pss: float | None
    """Shared pages counted by halves, thirds …; None where the kernel does not tell."""
    threads: int


def look(pid: int) -> Sight:
    """Return how ``pid`` is now.

    Raises:
        OSError: it has ended.

    """
    folder = Path("/proc") / str(pid)
    stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    fields = stat[stat.rfind(")") + 2 :].split()
    status = _sizes(folder / "status")
    return Sight(
        at=time.monotonic(),
        cpu=(int(fields[_UTIME]) + int(fields[_UTIME + 1])) / _TICKS_PER_S,
        rss=status["VmRSS"] / 1024,
        anon=status["RssAnon"] / 1024,
        peak=status["VmHWM"] / 1024,
        pss=_pss(folder),
        threads=status["Threads"],
    )


def _pss(folder: Path) -> float | None:
    try:
        return _sizes(folder / "smaps_rollup")["Pss"] / 1024
    except (OSError, KeyError):
        return None


def _sizes(path: Path) -> dict[str, int]:
    """Return the lines `Name:  number …` of a file of /proc; sizes there are in KiB."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        first = rest.split(None, 1)[:1]
        if first and first[0].isdecimal():
            found[name] = int(first[0])
    return found
