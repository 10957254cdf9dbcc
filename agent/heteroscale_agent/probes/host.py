"""CPU, memory and load of the host, through psutil."""

from __future__ import annotations

import platform

import psutil

from heteroscale_agent.model import HostReading


class HostProbe:
    """Reads procfs; well under a millisecond, so it needs no thread."""

    def __init__(self) -> None:
        # The first call only sets the mark that later ones measure from.
        psutil.cpu_percent(interval=None)

    def read(self) -> HostReading:
        """Return CPU use since the call before, memory in use and load; None where unreadable."""
        try:
            cpu = psutil.cpu_percent(interval=None)
            memory = psutil.virtual_memory()
            load, _, _ = psutil.getloadavg()
        except (OSError, ValueError, psutil.Error):
            return HostReading()
        return HostReading(
            cpu_percent=cpu if 0 <= cpu <= 100 else None,  # noqa: PLR2004 - per cent
            memory_used_bytes=memory.total - memory.available,
            load_1m=load,
        )


def cpu_count() -> int:
    """Return the number of logical CPUs; 0 when unknown."""
    return psutil.cpu_count() or 0


def memory_bytes() -> int:
    """Return the installed memory in bytes."""
    return psutil.virtual_memory().total


def kernel() -> str:
    """Return the kernel's release."""
    return platform.release()
