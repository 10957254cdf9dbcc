"""The host itself: program, kernel, container, limits, clock."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from heteroscale_agent.doctor.finding import Case, Finding, note, ok
from heteroscale_agent.probes import host

ENOUGH_FILES = 4096
ENGINE_FILES = 65_536
"""What engines with many clients want; they inherit the agent's limit."""
_PIDFD_KERNEL = (5, 3)
_UNSYNCED = 5
_TIMEX_BYTES = 512
"""More than any struct timex."""
_BUILT = 1_735_689_600.0
"""2025-01-01: this program is younger."""
_CONTAINER_WORDS = ("docker", "kubepods", "containerd", "libpod", "lxc", "garden")


def look(case: Case) -> Iterator[Finding]:
    """Yield what is to be known before any device is looked at."""
    yield ok("program", f"Python {platform.python_version()} at {sys.executable}")
    yield _kernel()
    memory = host.memory_bytes() / (1 << 30)
    yield ok("size", f"{host.cpu_count()} CPUs, {memory:.0f} GiB of memory")
    yield _container(case)
    yield from _limits(case)
    yield _clock()


def _kernel() -> Finding:
    release = host.kernel()
    text = f"{platform.system()} {release} {platform.machine()}"
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _PIDFD_KERNEL:
        return note(
            "kernel", text, "before 5.3 there are no pidfds: signals are a little less sure"
        )
    return ok("kernel", text)


def _container(case: Case) -> Finding:
    found = in_container(case)
    if not found:
        return ok("container", "not in one")
    if case.spec.templates:
        return note(
            "container",
            f"in a container ({found}), and there are templates",
            "engines started here end with the container: start them outside and name them "
            "under `engines`, or run the agent on the host itself",
        )
    return ok("container", f"in a container ({found}); it only watches, which is right there")


def in_container(case: Case) -> str:
    """Return what says that this is a container; empty when nothing does."""
    if case.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    for mark in ("/.dockerenv", "/run/.containerenv"):
        if Path(mark).exists():
            return mark
    try:
        cgroup = (case.proc / "1/cgroup").read_text("utf-8", "replace")
    except OSError:
        return ""
    return next((word for word in _CONTAINER_WORDS if word in cgroup), "")


def _limits(case: Case) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{_limit(soft)} for this shell (hard limit {_limit(hard)})"
    wanted = ENGINE_FILES if case.spec.templates else ENOUGH_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        why = "engines inherit the agent's limit; " if case.spec.templates else ""
        todo = f"{why}the unit says LimitNOFILE=1048576; by hand: ulimit -n {wanted}"
        yield note("open files", said, todo)
    else:
        yield ok("open files", said)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if locked == resource.RLIM_INFINITY or not case.spec.templates or os.geteuid() == 0:
        yield ok("locked memory", _limit(locked, " bytes"))
    else:
        todo = "RDMA engines register memory: the unit says LimitMEMLOCK=infinity"
        yield note("locked memory", _limit(locked, " bytes"), todo)


def _limit(value: int, unit: str = "") -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value}{unit}"


def _clock() -> Finding:
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    why = "leases and deadlines do not use it; certificates, logs and answers' ages do"
    if now < _BUILT:
        return note(
            "clock", f"{text} cannot be right", f"set it (chrony, systemd-timesyncd); {why}"
        )
    if _unsynced():
        return note(
            "clock", f"{text}; the kernel calls it not synchronised", f"run chrony or ntpd; {why}"
        )
    return ok("clock", text)


def _unsynced() -> bool:
    """Ask the kernel, as `adjtimex` does; False where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return False
    return bool(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) == _UNSYNCED)
