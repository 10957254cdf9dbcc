"""Templates and hooks: does the program exist, may its user run it, do patterns and ports work."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from heteroscale_agent.allowlist import FIELD_NAMES, fields_of
from heteroscale_agent.config import Template
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.hands.portpool import is_free

_PORT = re.compile(r"port_[1-9][0-9]*")
_ABSOLUTE = re.compile(r"(?:--?[A-Za-z0-9][A-Za-z0-9_-]*=)?(/[^{}]+)")


def look(case: Case) -> Iterator[Finding]:
    """Yield one line a template, or each thing that is wrong with it."""
    if not case.spec.templates:
        yield note(
            "templates", "none: this agent starts nothing", "right for an agent that watches"
        )
    for name, template in sorted(case.spec.templates.items()):
        found = list(_template(case, template))
        yield from (_named(f"template {name}", one) for one in found)
        if not found:
            said = f"{template.role.value}, {template.engine}, {template.command[0]}"
            yield ok(f"template {name}", f"{said} as {template.user or 'the agent itself'}")
    for name, hook in sorted(case.spec.hooks.items()):
        programs = {command[0] for command in (hook.open, hook.close, hook.check) if command}
        faults = [fault for word in sorted(programs) if (fault := why_not(case, word, ""))]
        yield (
            problem(f"hook {name}", "; ".join(faults), "install it, or mend the path")
            if faults
            else ok(f"hook {name}", ", ".join(sorted(programs)))
        )


def ports(case: Case) -> Iterator[Finding]:
    """Yield how many ports of the range are free, and whether the kernel gives them away too."""
    wanted = max((template.ports for template in case.spec.templates.values()), default=0)
    if not wanted:
        return
    first, last = case.spec.ports.first, case.spec.ports.last
    free = sum(is_free(port) for port in range(first, last + 1))
    said = f"{free} of {last - first + 1} free in {first}-{last}"
    if free < wanted:
        yield problem("ports", said, f"an instance draws {wanted}: widen `ports`, or free some")
        return
    yield ok("ports", said)
    ephemeral = _ephemeral(case)
    if ephemeral and first <= ephemeral[1] and ephemeral[0] <= last:
        yield note(
            "ports",
            f"{first}-{last} overlaps {ephemeral[0]}-{ephemeral[1]}, which the kernel gives to clients",
            "a connection may hold a port that an engine was given: choose `ports` outside of it",
        )


def _ephemeral(case: Case) -> tuple[int, int] | None:
    try:
        text = (case.proc / "sys/net/ipv4/ip_local_port_range").read_text("ascii")
        low, high = text.split()
        return int(low), int(high)
    except (OSError, ValueError):
        return None


def _named(check: str, finding: Finding) -> Finding:
    return Finding(check, finding.level, finding.saw, finding.todo)


def _template(case: Case, template: Template) -> Iterator[Finding]:
    if fault := why_not(case, template.command[0], template.user):
        yield problem("", fault, "install it, or mend `command` and `user`")
    for name, pattern in template.parameters.items():
        try:
            re.compile(pattern)
        except re.error as error:
            todo = "every launch that gives it is refused: mend `parameters`"
            yield problem("", f"parameter {name}: {pattern!r} is no pattern: {error}", todo)
    unknown = sorted(_unknown_fields(template))
    if unknown:
        yield problem(
            "",
            f"uses {', '.join('{' + name + '}' for name in unknown)}, which nobody gives",
            "list it under `parameters`, or draw more `ports`",
        )
    for word in template.command[1:]:
        found = _ABSOLUTE.fullmatch(word)
        if found and not Path(found[1]).exists():
            yield note(
                "", f"{found[1]} does not exist", "the engine may make it; else mend `command`"
            )


def _unknown_fields(template: Template) -> set[str]:
    drawn = {f"port_{n}" for n in range(1, template.ports + 1)}
    known = FIELD_NAMES | drawn | template.parameters.keys()
    if template.ports < 2:  # noqa: PLR2004 - the second port
        known = known - {"bootstrap_port"}
    return {
        name for text in (*template.command, *template.env.values()) for name in fields_of(text)
    } - known


def why_not(case: Case, program: str, user: str) -> str:
    """Return why ``user`` (empty: we) cannot run ``program``; empty when nothing is in the way."""
    if "{" in program:
        return ""
    account = _account(user)
    if user and account is None:
        return f"there is no user {user!r}"
    path = program if "/" in program else shutil.which(program, path=case.environ.get("PATH"))
    if path is None:
        return f"{program} is not on PATH"
    if not Path(path).exists():
        return f"{path} does not exist"
    if account is None:
        return "" if os.access(path, os.X_OK) else f"{path} may not be run by us"
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    closed = _closed_to(Path(path).resolve(), account.pw_uid, groups)
    return f"{user} may not run {path}: {closed} is closed to it" if closed else ""


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user) if user else None
    except KeyError:
        return None


def _closed_to(path: Path, uid: int, groups: Sequence[int]) -> str:
    """Return the first part of a path without its execute bit for a user; by mode, not by ACL."""
    if uid == 0:
        return ""
    for part in (*reversed(path.parents), path):
        facts = part.stat()
        bit = stat.S_IXOTH
        if facts.st_uid == uid:
            bit = stat.S_IXUSR
        elif facts.st_gid in groups:
            bit = stat.S_IXGRP
        if not facts.st_mode & bit:
            return str(part)
    return ""
