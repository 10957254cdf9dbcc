"""A way in: what is asked of Slurm, be it through slurmrestd or through its commands.

Each call has a deadline of its own, because Slurm's clients wait for ever on a controller that is down.
What went wrong is one of two things: Slurm said no (RefusedError), or it is not known what it did
(UnavailableError).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from heteroscale_scheduler_adapters.port import AdapterError, RefusedError, UnavailableError
from heteroscale_scheduler_adapters.slurm.records import (
    JobRecord,
    NodeRecord,
    Order,
    ReservationRecord,
)

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; a cluster of 10,000 nodes with 10,000 jobs says some 40 MB."""


class Way(Protocol):
    """One of the two ways in."""

    name: str
    """In words, for messages."""
    user: str
    """As whom Slurm is asked; jobs of others are never touched."""

    @property
    def warns_script(self) -> bool:
        """Whether it can ask Slurm to warn the batch script alone of the time limit."""
        ...

    async def open(self) -> None:
        """Find out whether Slurm answers. Raises UnavailableError, SettingsError."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

    async def nodes(self) -> list[NodeRecord]:
        """Return all nodes."""
        ...

    async def jobs(self) -> list[JobRecord]:
        """Return all jobs that Slurm still knows, also those that ended."""
        ...

    async def topology(self) -> str:
        """Return the text of its topology; empty: this way cannot tell."""
        ...

    async def reservations(self) -> list[ReservationRecord]:
        """Return all reservations."""
        ...

    async def submit(self, order: Order) -> int:
        """Submit a job, held, and return its number."""
        ...

    async def release(self, jobs: Sequence[int]) -> None:
        """Let held jobs start."""
        ...

    async def comment(self, job: int, text: str) -> None:
        """Change what is written on a job."""
        ...

    async def signal(self, job: int, *, batch: bool) -> None:
        """Send TERM to the batch script alone, or to the steps of a job. One that ended gets none."""
        ...

    async def cancel(self, jobs: Sequence[int]) -> None:
        """End jobs; whatever has ended already stays so."""
        ...

    async def drain(self, node: str, reason: str) -> None:
        """Let nothing new start on a node."""
        ...

    async def resume(self, node: str) -> None:
        """Undo ``drain``."""
        ...


# What Slurm says when nobody answered, or nobody could be asked: it may have been done, or not.
_NOT_NOW = re.compile(
    r"unable to contact|connect failure|connection (?:refused|reset|timed out)|timed out|"
    r"authentication|munge|credential|zero bytes|transport endpoint|unexpected message|"
    r"temporarily|try again|not responding|in standby|unable to load|cannot? (?:read|load) config|"
    r"could not establish a configuration|communication|network is unreachable|no route|"
    r"insane message|slurm backup|database|address already|protocol version",
    re.IGNORECASE,
)
_NO_SUCH_JOB = re.compile(
    r"invalid job id|already (?:completed|completing|finished)", re.IGNORECASE
)


SILENCE = "nothing more"
"""Said of what failed without a word."""


def verdict(text: str, doing: str) -> AdapterError:
    """Return the error that Slurm's words mean."""
    said = " ".join(text.split())[:500] or SILENCE
    if _NOT_NOW.search(said):
        return UnavailableError(f"{doing}: {said}")
    return RefusedError(f"{doing}: {said}")


def gone(error: AdapterError) -> bool:
    """Return whether an error says that the job has ended, or never was."""
    return _NO_SUCH_JOB.search(str(error)) is not None
