"""What the agent may do on this host: become a template's user, find and stop its engines."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

from heteroscale_agent.doctor.finding import Case, Finding, ok, problem
from heteroscale_agent.doctor.routers import records

_BITS = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_PTRACE": 19}


def look(case: Case) -> Iterator[Finding]:
    """Yield what this user may do; doctor speaks of the user it runs as."""
    me = _name(os.geteuid())
    held = capabilities(case)
    others = sorted({t.user for t in case.spec.templates.values() if t.user and t.user != me})
    told = ", ".join(name for name in _BITS if name in held) or "none of those that matter"
    yield ok("user", f"{me}; capabilities: {told}")
    if not others:
        yield ok("templates' users", "engines run as the agent itself")
        return
    missing = [name for name in ("CAP_SETUID", "CAP_SETGID") if name not in held]
    if missing:
        yield problem(
            "templates' users",
            f"{me} may not become {', '.join(others)} ({', '.join(missing)} missing)",
            "run the agent as root (the unit does), or leave `user` out",
        )
        return
    yield ok("templates' users", f"may become {', '.join(others)}")
    for name, why in (
        ("CAP_SYS_PTRACE", "it cannot read engines' tags, by which they are found after a crash"),
        ("CAP_KILL", "it cannot stop engines of other users"),
    ):
        if name not in held:
            yield problem(name, f"missing: {why}", "run the agent as root (the unit does)")


def engines(case: Case) -> Iterator[Finding]:
    """Yield whether the tags of running engines can be read."""
    live = [record for record in records(case) if record.pid]
    closed: list[int] = []
    for record in live:
        try:
            (case.proc / str(record.pid) / "environ").read_bytes()
        except PermissionError:
            closed.append(record.pid)
        except OSError:
            continue
    if closed:
        yield problem(
            "engines' tags",
            f"/proc/PID/environ of {', '.join(map(str, closed[:8]))} is closed to us",
            "after a crash they could not be found again: run as the agent's user, or as root",
        )
    elif live:
        yield ok("engines' tags", f"of {len(live)} running engines can be read")


def capabilities(case: Case) -> set[str]:
    """Return those of `_BITS` that are in effect; all of them are root's unless taken away."""
    try:
        text = (case.proc / "self/status").read_text("ascii", "replace")
        (line,) = [one for one in text.splitlines() if one.startswith("CapEff:")]
        bits = int(line.split()[1], 16)
    except (OSError, ValueError, IndexError):
        return set()
    return {name for name, bit in _BITS.items() if bits >> bit & 1}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
