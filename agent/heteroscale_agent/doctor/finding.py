"""What a look at one thing says, and what all looks are given to look with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from heteroscale_agent.config import AgentSpec

MAX_TEXT = 400
"""Letters of one sentence: much of it was said by strangers."""


class Level(StrEnum):
    """How a thing stands."""

    OK = "ok"
    NOTE = "note"
    """It works, or is absent; but somebody should know."""
    PROBLEM = "problem"
    """Something that the configuration asks for will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was seen, and what to do about it."""

    check: str
    level: Level
    saw: str
    todo: str = ""


def ok(check: str, saw: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Level.OK, plain(saw))


def note(check: str, saw: str, todo: str = "") -> Finding:
    """Return that it should be known."""
    return Finding(check, Level.NOTE, plain(saw), plain(todo))


def problem(check: str, saw: str, todo: str) -> Finding:
    """Return that it will not work, and what to do."""
    return Finding(check, Level.PROBLEM, plain(saw), plain(todo))


def plain(text: str) -> str:
    """Return text as one printable line of bounded length."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


@dataclass(frozen=True, slots=True)
class Case:
    """What looks are given: the settings, and where the host shows itself."""

    spec: AgentSpec
    deadline: float = 5.0
    """Seconds that any one look may take."""
    configured: bool = True
    """False: no document was given, and `spec` holds defaults."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    proc: Path = Path("/proc")


@dataclass(frozen=True, slots=True)
class Look:
    """One look: under which subject it is shown, and the function that looks. It may block or raise."""

    subject: str
    check: str
    function: Callable[[Case], Iterator[Finding]]
