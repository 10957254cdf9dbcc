"""The engines of a local cluster: found by what they carry in their environment, and ended for sure.

They belong to agents, not to the cluster, and outlive both. An engine may be several processes, one of
which spins, ignores TERM, or has lost its leader; each bears what its leader was given.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from heteroscale_workbench.cluster.processes import ProcessError

ID = "HETEROSCALE_INSTANCE_ID"
MARK = "HETEROSCALE_SEEN_DIR"
"""What says whose an engine is: it lies below the cluster's directory."""
KILL_TIMEOUT = 30.0
"""Seconds after KILL in which the kernel gives a process's memory back, on a machine that is full."""
_LOOK = 1.0


def leaders(directory: Path) -> dict[str, psutil.Process]:
    """Return the engines' processes by instance id, whoever launched them.

    Of an engine of several processes it is the leader, where that still runs.
    """
    found: dict[str, psutil.Process] = {}
    for instance, process in _carriers(directory):
        if instance not in found or _leads(process):
            found[instance] = process
    return found


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it has started, itself first; nothing when it is gone."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def kill(directory: Path, timeout: float = KILL_TIMEOUT) -> None:
    """KILL every process of every engine of a cluster, and wait until they are gone.

    Looked for until none is found: one may have been starting another.

    Raises:
        ProcessError: some are still there after ``timeout`` seconds.

    """
    for _ in range(max(1, round(timeout / _LOOK))):
        doomed = {one for _, process in _carriers(directory) for one in tree(process)}
        if not doomed:
            return
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(doomed, timeout=_LOOK)
    left = [f"{process.pid} of {instance}" for instance, process in _carriers(directory)]
    if left:
        raise ProcessError(f"still there {timeout:g} s after KILL: {', '.join(left)}")


def _carriers(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield every process of every engine with its instance's id."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environ = process.environ()
            instance = environ.get(ID)
            if instance and Path(environ.get(MARK, "/")).is_relative_to(directory):
                yield instance, process


def _leads(process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False
