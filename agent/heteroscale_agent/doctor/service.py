"""How the agent is kept running: systemd's settings, its environment, and other agents here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.doctor.state import lock_holder

UNIT = "heteroscale-agent.service"
_ASKED = ("LoadState", "ActiveState", "KillMode", "Restart", "LimitNOFILE", "MemoryMax", "TasksMax")
_FORK = "GRPC_ENABLE_FORK_SUPPORT"
_SCRIPTS = ("heteroscale-agent", "heteroscale_agent")


def systemd(case: Case) -> Iterator[Finding]:
    """Yield whether systemd would leave engines alone when it stops or restarts the agent."""
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        yield ok("systemd", "not this host's init; see to it yourself that the agent is restarted")
        return
    unit = _unit_of(case, lock_holder(case, case.spec.state_dir / "lock")) or UNIT
    said = _show(unit, case.deadline)
    if said.get("LoadState") != "loaded":
        yield note("unit", f"{unit} is not installed", "deploy/install.sh installs it")
        return
    yield ok("unit", f"{unit} is {said.get('ActiveState', 'unknown')}")
    yield from _settings(case, unit, said)


def _settings(case: Case, unit: str, said: Mapping[str, str]) -> Iterator[Finding]:
    mode = said.get("KillMode", "")
    if mode != "process" and case.spec.templates:
        todo = f"systemctl edit {unit}: [Service] KillMode=process"
        yield problem("KillMode", f"{mode or 'unknown'}: engines are killed with the agent", todo)
    else:
        yield ok("KillMode", mode)
    if said.get("Restart") not in {"always", "on-failure", "on-abnormal"}:
        yield note("Restart", said.get("Restart", "unknown"), "Restart=always brings it back")
    for name in ("MemoryMax", "TasksMax"):
        value = said.get(name, "infinity")
        if value != "infinity" and case.spec.templates:
            todo = f"engines live in the agent's unit: {name}=infinity"
            yield note(name, f"{value}, for agent and engines together", todo)


def _show(unit: str, deadline: float) -> dict[str, str]:
    command = ["systemctl", "show", unit, *(f"--property={name}" for name in _ASKED)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=deadline, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _unit_of(case: Case, pid: int) -> str:
    """Return the service that a process belongs to."""
    try:
        text = (case.proc / str(pid) / "cgroup").read_text("utf-8", "replace") if pid else ""
    except OSError:
        return ""
    names = [part for line in text.splitlines() for part in line.split("/")]
    return next((name for name in reversed(names) if name.endswith(".service")), "")


def environment(case: Case) -> Iterator[Finding]:
    """Yield what the running agent's environment says that could do harm."""
    pid, environ = agents_environment(case)
    whose = f"agent {pid}" if pid else "this shell"
    value = environ.get(_FORK, "")
    if value.lower() in {"1", "true", "on", "yes"}:
        yield problem(
            _FORK, f"{value} in {whose}", "unset it: gRPC's fork handlers would hang launches"
        )
    else:
        yield ok(_FORK, f"{value or 'not set, the agent sets 0'} ({whose})")


def agents_environment(case: Case) -> tuple[int, Mapping[str, str]]:
    """Return pid and environment of the running agent; 0 and this shell's where it cannot be seen."""
    pid = lock_holder(case, case.spec.state_dir / "lock")
    try:
        data = (case.proc / str(pid) / "environ").read_bytes() if pid else b""
    except OSError:
        data = b""
    words = data.decode("utf-8", "replace").split("\0")
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return (pid, found) if found else (0, case.environ)


def other_agents(case: Case) -> Iterator[Finding]:
    """Yield every agent on this host: two of them would both offer the same GPUs."""
    ours = lock_holder(case, case.spec.state_dir / "lock")
    others = [pid for pid in _agents(case) if pid != ours]
    if not others:
        yield ok("other agents", "none")
        return
    yield note(
        "other agents",
        f"also run here: pid {', '.join(map(str, others[:8]))}",
        "each offers all GPUs it sees: one agent a host, but for tests",
    )


def _agents(case: Case) -> list[int]:
    found: list[int] = []
    for entry in case.proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if is_agent(words):
            found.append(int(entry.name))
    return sorted(found)


def is_agent(words: list[str]) -> bool:
    """Return whether a command line runs an agent: by script, by module, or as `heteroscale agent`."""
    names = [Path(word).name for word in words[:4]]
    if "doctor" in words or "check" in words or ("-c" not in words and "--config" not in words):
        return False
    if any(name in _SCRIPTS for name in names):
        return True
    return any(a == "heteroscale" and b == "agent" for a, b in pairwise(names))
