"""What a mini Slurm needs of this host: its programs, a block of ports, and an end of all it started."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_NEEDED = ("slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "munged")


def _missing(*names: str) -> list[str]:
    return [name for name in names if shutil.which(name, path=_PATH) is None]


def _why_not(missing: Sequence[str], packages: str) -> str:
    if missing:
        return f"needs {', '.join(missing)} (Debian: apt-get install {packages})"
    return "needs root: slurmd starts jobs as their users" if os.getuid() else ""


MISSING = _missing(*_NEEDED)
WHY_NOT = _why_not(MISSING, "slurm-wlm munge")
"""Why no cluster can be started here; empty: one can."""
_JWT = any(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so"))
WHY_NO_REST = _why_not(
    [*_missing(*_NEEDED, "slurmrestd"), *([] if _JWT else ["auth_jwt.so"])],
    "slurm-wlm munge slurmrestd slurm-wlm-jwt-plugin",
)
"""Why there is no slurmrestd here; empty: there is."""

PORTS = 20
"""Of one cluster: its controller's, and one for each node."""


async def end_processes(folder: Path, node: str = "") -> None:
    """Kill all that is left of a cluster, or of jobs on a node: daemons, step daemons, what jobs started.

    They know its configuration by their environment; step daemons write over theirs, and stand in its
    folder. Step daemons and what they started outlive Slurm, and another cluster of this host has jobs of
    the same numbers.
    """
    for _ in range(10):
        left = [process for process in psutil.process_iter() if _of(process, folder, node)]
        if not left:
            return
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        await wait(left, 5.0)


async def wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return who is left of these after so long; a zombie holds nothing, and its parent may be slow."""
    until = time.monotonic() + seconds
    left = list(processes)
    while left := [process for process in left if _lives(process)]:
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.01)
    return left


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _of(process: psutil.Process, folder: Path, node: str) -> bool:
    with suppress(psutil.Error, OSError):
        if not _lives(process):
            return False
        environ = process.environ()
        if environ.get("SLURM_CONF") == f"{folder}/slurm.conf":
            return not node or environ.get("SLURMD_NODENAME") == node
        if not process.name().startswith("slurm") or not Path(process.cwd()).is_relative_to(folder):
            return False
        log = str(folder / f"slurmd.{node}.log")
        return not node or any(file.path == log for file in process.open_files())
    return False


def block() -> tuple[socket.socket, int]:
    """Return a block of ports that nobody else has, and what keeps others away from it."""
    blocks = list(range(12_000, 32_000, PORTS))
    random.shuffle(blocks)
    for first in blocks:
        guard = socket.socket(socket.AF_UNIX)
        try:
            # A name of the kernel's, without a file: it goes with its process.
            guard.bind(f"\0heteroscale-tests-slurm-{first}")
        except OSError:
            guard.close()
            continue
        if all(_free(port) for port in range(first, first + PORTS)):
            return guard, first
        guard.close()
    raise AssertionError("no block of ports is free")


def _free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
