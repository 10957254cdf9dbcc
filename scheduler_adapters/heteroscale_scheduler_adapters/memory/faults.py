"""What can go wrong with a call, as values that are set from outside: ``cluster.faults["launch"] = …``.

A fault stands until it is taken away, or for so many ``times``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from heteroscale_scheduler_adapters.port import RefusedError, UnavailableError


@dataclass(slots=True)
class Fault:
    """Nothing goes wrong; the others do by overriding ``before`` and ``after``."""

    text: str = "the cluster is out of order"
    times: int | None = None
    """Calls that it spoils; None: every one."""

    @property
    def over(self) -> bool:
        """Whether it has spoilt as many calls as it was to."""
        return self.times is not None and self.times <= 0

    def spend(self) -> None:
        """Note that one more call met it."""
        if self.times is not None:
            self.times -= 1

    async def before(self) -> None:
        """Do what happens before the call is carried out."""

    async def after(self) -> None:
        """Do what happens once it has been."""


@dataclass(slots=True)
class Unavailable(Fault):
    """Nobody answers, or it is asked too often (``retry_after`` seconds); nothing is done."""

    retry_after: float = 0.0

    async def before(self) -> None:
        """Say so."""
        raise UnavailableError(self.text, retry_after=self.retry_after)


@dataclass(slots=True)
class Outage(Fault):
    """Nobody answers while a file is there; nothing is done."""

    file: Path = Path()

    async def before(self) -> None:
        """Say so."""
        if self.file.exists():
            raise UnavailableError(f"nobody answers while {self.file} is there")


@dataclass(slots=True)
class Refusal(Fault):
    """The cluster says no; nothing is done."""

    async def before(self) -> None:
        """Say so."""
        raise RefusedError(self.text)


@dataclass(slots=True)
class LostAnswer(Fault):
    """It is carried out, but its answer never arrives."""

    async def after(self) -> None:
        """Say that there was none."""
        raise UnavailableError(self.text)


@dataclass(slots=True)
class Hang(Fault):
    """No answer comes at all, until it is ``released``; nothing is done before."""

    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def before(self) -> None:
        """Wait."""
        await self.released.wait()
