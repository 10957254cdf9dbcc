"""What the faces of the coordinator (operators, HTTP) ask of the loop, and the loop of observers.

The faces read ``state`` between turns, on the event loop's own thread, and keep nothing of it
across an await.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from heteroscale_coordinator.core.events import Answer, Changes, Event, RenewLeases, Wish
from heteroscale_coordinator.core.model import Decision, Inventory
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.mailbox import Mailbox
from heteroscale_coordinator.edge.store.query import DecisionPage, DecisionQuery


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """How the loop is. ``now`` is its own clock: seconds since 1970, never going back."""

    now: float
    not_ready: tuple[str, ...] = ()
    """Why it is not ready, in words; empty: it is."""
    epoch: int = 0
    stuck: str = ""
    """Non-empty: turns have stopped, and only a restart helps. ``/healthz`` turns red."""


class Subscription(Protocol):
    """An async iterator of committed changes with their time; ends when the loop stops."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Changes, float]:
        """Return the next, or raise StopAsyncIteration."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


class HasStatus(Protocol):
    """The loop, or whoever waits to begin one, as far as health goes."""

    def status(self) -> LoopStatus:
        """Return how it is, at once."""
        ...


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

    def subscribe(self) -> Subscription:
        """Return what is committed from this call on (not from the first step of the iterator).

        A subscriber that lags too far behind gets ``feed.FeedLaggedError``.
        """
        ...

    def status(self) -> LoopStatus:
        """Return how the loop is, at once."""
        ...


class Leader(Protocol):
    """The one writer, as agents' streams see it."""

    state: State
    mailbox: Mailbox
    inventories: dict[str, Inventory]
    """The slow facts that are stored, by agent id."""

    def now(self) -> float:
        """Return the coordinator's time."""
        ...

    async def lead(self, heard: int, *, ours: bool = False) -> int:
        """Return the epoch to lead an agent with that has heard ``heard``; raise it if needed."""
        ...


class Decisions(Protocol):
    """The record of decisions, read; see ``store.decisions.DecisionLog``."""

    def latest(self, service: str) -> Decision | None:
        """Return the newest of a service, without I/O."""
        ...

    def latest_of_all(self) -> list[Decision]:
        """Return the newest of every service, without I/O."""
        ...

    def select(self, query: DecisionQuery) -> DecisionPage:
        """Return a page of what is asked for, newest first; blocks. PageError: no such page."""
        ...

    def at(self, service: str, at: float) -> Decision | None:
        """Return the one in force at a time; None: the record begins later. Blocks."""
        ...

    def oldest(self, service: str) -> Decision | None:
        """Return the oldest that is kept; blocks."""
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

    def reports(self, delays: Sequence[float], coalesced: int) -> None:
        """Count a turn's reports: seconds from stream to state of each, and how many were merged."""
        ...


class Step(Protocol):
    """The turn, as ``core.step.step``."""

    def __call__(
        self, state: State, events: Sequence[Event], now: float, mint: Callable[[str], str]
    ) -> Changes:
        """Fold the events, decide, and return what changes."""
        ...


class Outlet(Protocol):
    """Where commands and effects leave. Called after the commit; never waits."""

    def dispatch(self, changes: Changes, state: State, epoch: int) -> None:
        """Send the new open commands of ``changes`` and its effects, answers left out."""
        ...

    def renew(self, leases: Iterable[RenewLeases], epoch: int) -> None:
        """Send lease renewals."""
        ...
