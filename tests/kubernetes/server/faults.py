"""What a cluster does wrong: answers late, never, with an error, in part, or nonsense."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum


class Wrong(StrEnum):
    """In which way."""

    STATUS = "status"
    """Answers with ``code``."""
    SLOW = "slow"
    """Answers after ``seconds``."""
    HANG = "hang"
    """Does not answer as long as the fault stands."""
    CUT = "cut"
    """Closes the connection without an answer."""
    LOST = "lost"
    """Does what is asked, then closes the connection without an answer."""
    GARBAGE = "garbage"
    """Answers 200 with what is no JSON."""
    TRUNCATED = "truncated"
    """Answers with the first half, then closes the connection."""
    WATCH_CUT = "watch-cut"
    """Closes a stream after ``events`` lines, in the midst of the next."""
    WATCH_STALL = "watch-stall"
    """Goes on with a stream, but tells nothing after ``events`` lines, no bookmarks either."""
    WATCH_GARBAGE = "watch-garbage"
    """Writes a line that is no JSON after ``events`` lines."""
    WATCH_END = "watch-end"
    """Ends a stream as it should be ended, after ``events`` lines."""


@dataclass
class Fault:
    """One fault, and what it hits."""

    wrong: Wrong
    path: str = ""
    """A regular expression, searched for in path and query; empty: all."""
    method: str = ""
    """``GET``, ``POST`` …; empty: all."""
    times: int = -1
    """How many requests it hits; below 0: all of them, until it is lifted."""
    code: int = 500
    retry_after: int = 0
    """Seconds, told in the header; 0: none is told."""
    seconds: float = 0.0
    events: int = 0
    hits: int = field(default=0, init=False)

    def takes(self, method: str, target: str) -> bool:
        """Tell whether it hits a request, and count that."""
        if self.times >= 0 and self.hits >= self.times:
            return False
        if self.method and self.method != method:
            return False
        if not re.search(self.path, target):
            return False
        self.hits += 1
        return True


class Faults:
    """All that stand now; the first that takes a request has it."""

    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        self._all.append(fault)
        return fault

    def clear(self) -> None:
        self._all.clear()

    def stands(self, fault: Fault) -> bool:
        return any(one is fault for one in self._all)

    def hit(self, method: str, target: str, *, watch: bool) -> Fault | None:
        """Return what hits a request; those of streams hit nothing else."""
        for fault in self._all:
            if fault.wrong.startswith("watch") and not watch:
                continue
            if fault.takes(method, target):
                return fault
        return None
