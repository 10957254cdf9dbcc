"""Runs all looks side by side. One that hangs is left behind, and that is what is said of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from heteroscale_agent.doctor.finding import Case, Finding, Look, problem

_SLACK = 0.5
"""Seconds beyond the deadline, so that a look that minds it can say more than its silence would."""


@dataclass(slots=True)
class _Running:
    look: Look
    thread: threading.Thread
    found: list[Finding] = field(default_factory=list)


def run(looks: Iterable[Look], case: Case) -> list[tuple[str, Finding]]:
    """Return (subject, finding) of every look, in their order; takes little more than the deadline."""
    ends_at = time.monotonic() + case.deadline + _SLACK
    running = [_start(look, case) for look in looks]
    for one in running:
        one.thread.join(max(0.0, ends_at - time.monotonic()))
    return [(one.look.subject, finding) for one in running for finding in _said(one, case)]


def _start(look: Look, case: Case) -> _Running:
    found: list[Finding] = []
    # A daemon: a call that hangs in a driver must not keep the program from ending.
    thread = threading.Thread(
        target=_look, args=(look, case, found), name=f"look {look.check}", daemon=True
    )
    thread.start()
    return _Running(look, thread, found)


def _look(look: Look, case: Case, found: list[Finding]) -> None:
    try:
        for finding in look.function(case):
            found.append(finding)  # noqa: PERF402 - one by one: what came before a hang is kept
    except PermissionError as error:
        said = f"{error.filename or error} is closed to us"
        found.append(problem(look.check, said, "run doctor as the agent's user (sudo)"))
    except Exception as error:  # noqa: BLE001 - one look that fails must not spoil the others
        said = f"could not be looked at: {type(error).__name__}: {error}"
        found.append(problem(look.check, said, "please report this with the text above"))


def _said(one: _Running, case: Case) -> list[Finding]:
    if not one.thread.is_alive():
        return one.found
    hangs = problem(
        one.look.check,
        f"no answer within {case.deadline:g} s",
        "the source hangs: the agent would go on without it and call its readings unknown",
    )
    return [*one.found, hangs]
