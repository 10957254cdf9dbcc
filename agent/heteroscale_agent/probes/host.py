"""CPU, memory and load of the host, from procfs (`proc(5)`).

Two small files a second; psutil would read them too, for a megabyte of the agent's memory.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

from heteroscale_agent.model import HostReading

PROC = Path("/proc")

_FILE_BYTES = 64 * 1024
_COUNTED = 8
"""user nice system idle iowait irq softirq steal; time of guests is in user and nice already."""
_IDLE = slice(3, 5)
_PER_CENT = 100.0


class _Ticks(NamedTuple):
    """CPU time of all cores since boot, in clock ticks."""

    total: int
    idle: int


class HostProbe:
    """Reads procfs; a tenth of a millisecond, and it never blocks, so it needs no thread."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        # CPU use is that since the reading before.
        self._before = self._ticks()

    def read(self) -> HostReading:
        """Return CPU use since the call before, memory in use and load; None where unreadable."""
        memory = _memory(self._proc)
        available, total = memory.get("MemAvailable"), memory.get("MemTotal")
        known = available is not None and total is not None and available <= total
        return HostReading(
            cpu_percent=self._cpu_percent(),
            memory_used_bytes=(total or 0) - (available or 0) if known else None,
            load_1m=_load(self._proc),
        )

    def _cpu_percent(self) -> float | None:
        before, now = self._before, self._ticks()
        self._before = now
        if before is None or now is None:
            return None
        total, idle = now.total - before.total, now.idle - before.idle
        # The kernel's count of waiting for disks may go back a little.
        return _PER_CENT * (total - max(0, idle)) / total if 0 < total >= idle else None

    def _ticks(self) -> _Ticks | None:
        words = _text(self._proc / "stat").partition("\n")[0].split()
        try:
            counts = [int(word) for word in words[1 : 1 + _COUNTED]]
        except ValueError:
            return None
        if words[:1] != ["cpu"] or len(counts) < _IDLE.stop:
            return None
        return _Ticks(sum(counts), sum(counts[_IDLE]))


def cpu_count() -> int:
    """Return the number of logical CPUs; 0 when unknown."""
    return os.cpu_count() or 0


def memory_bytes(proc: Path = PROC) -> int:
    """Return the installed memory in bytes; 0 when unknown."""
    return _memory(proc).get("MemTotal", 0)


def kernel() -> str:
    """Return the kernel's release."""
    return platform.release()


def _memory(proc: Path) -> dict[str, int]:
    """Return the sizes of meminfo in bytes, those that it shows."""
    found: dict[str, int] = {}
    for line in _text(proc / "meminfo").splitlines():
        name, _, size = line.partition(":")
        number, unit = (*size.split(), "", "")[:2]
        if unit == "kB" and number.isdecimal():
            found[name] = 1024 * int(number)
    return found


def _load(proc: Path) -> float | None:
    first = _text(proc / "loadavg").partition(" ")[0]
    return float(first) if first.replace(".", "", 1).isdecimal() else None


def _text(path: Path) -> str:
    """Return the first bytes of a file, empty when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
