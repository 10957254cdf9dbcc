"""What the faces of the coordinator (operators, HTTP) ask of the loop, and the loop of observers.

The faces read ``state`` between turns, on the event loop's own thread, and keep nothing of it
across an await.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from heteroscale_coordinator.core.events import Answer, Changes, Wish
from heteroscale_coordinator.core.state import State


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """How the loop is. ``now`` is its own clock: seconds since 1970, never going back."""

    now: float
    not_ready: tuple[str, ...] = ()
    """Why it is not ready, in words; empty: it is."""
    epoch: int = 0
    stuck: str = ""
    """Non-empty: turns have stopped, and only a restart helps. ``/healthz`` turns red."""


class Loop(Protocol):
    """The one writer, as others see it."""

    @property
    def state(self) -> State:
        """What is committed, and the telemetry. Read only."""
        ...

    async def submit(self, wish: Wish) -> Answer:
        """Put a wish into the next turn; the answer comes after the commit.

        Raises any error of the loop itself (the store cannot commit, it is stopping).
        """
        ...

    def subscribe(self) -> AsyncIterator[tuple[Changes, float]]:
        """Return what is committed from this call on (not from the first step of the iterator)."""
        ...

    def status(self) -> LoopStatus:
        """Return how the loop is, at once."""
        ...


class Observer(Protocol):
    """What the loop tells its gauges. Calls are cheap and never raise."""

    def turn(self, seconds: float) -> None:
        """Record that a turn took so long, its commit left out."""
        ...

    def commit(self, seconds: float, *, failed: bool = False) -> None:
        """Record a commit, in the writer thread's own time."""
        ...

    def committed(self, changes: Changes) -> None:
        """Count the decisions and commands of what has been committed."""
        ...

    def reports(self, count: int) -> None:
        """Count reports taken in."""
        ...
