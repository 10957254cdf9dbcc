"""One agent's stream: who is at the other end, what is to be sent, what is still to be acknowledged.

Downward nothing grows without bound. Commands keep their order and are never dropped; lease
renewals and acknowledgements coalesce to the newest. The writer is a task that lives only while
there is something to write, so an idle stream costs no task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from heteroscale_coordinator.edge import orders

log = structlog.get_logger("heteroscale.session")

MAX_COMMANDS = 1_000
"""More unsent commands than this, and the stream is stuck: it is ended, and they are sent again."""
ACK_EVERY = 20
"""Reports of a quiet stream are acknowledged so many at a time."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """The stream ends with this status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines of a stream, in seconds."""

    hello: float = 10.0
    """From admission to a whole hello."""
    idle: float = 60.0
    """Without a whole message for so long, the stream is ended: it is dead, or drips."""
    stuck: float = 30.0
    """One message not taken by the agent for so long ends the stream."""
    sweep: float = 2.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who said hello."""

    agent_id: str
    incarnation: int
    token: str
    hostname: str
    address: str
    advertise_host: str = ""
    """Where its peers reach it: what rank 0's agent tells the other ranks."""


class Session:
    """See the module. ``task`` handles the stream; it is cancelled when ``end`` is called.

    ``sequence`` is the hello's: it is owed from the start, until ``greeted`` says it is committed.
    """

    __slots__ = (
        "_ack_due",
        "_acked",
        "_closed",
        "_commands",
        "_now",
        "_owed",
        "_renewal",
        "_sequence",
        "_task",
        "_unacked",
        "_write",
        "_writer",
        "ending",
        "greeted",
        "heard_at",
        "peer",
        "writing_since",
    )

    def __init__(
        self,
        peer: Peer,
        write: Callable[[Any], Awaitable[None]],
        task: asyncio.Task[Any],
        now: Callable[[], float],
        sequence: int = 0,
    ) -> None:
        self.peer = peer
        self.heard_at = now()
        self.writing_since: float | None = None
        self.ending: Refusal | None = None
        self._write, self._task, self._now = write, task, now
        self._sequence = sequence
        self._acked = sequence - 1
        self._unacked = 0
        self._ack_due = False
        self._owed: dict[int, int] = {sequence: 1}
        self.greeted = self._payment(sequence)
        self._commands: deque[Any] = deque()
        self._renewal: tuple[Mapping[str, float], int] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    # ---- down ------------------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Queue a welcome or a command; it is never dropped while the stream lives."""
        if len(self._commands) >= MAX_COMMANDS:
            self.end(grpc.StatusCode.RESOURCE_EXHAUSTED, "the agent does not read its commands")
            return
        self._commands.append(message)
        self._kick()

    def renew(self, leases: Mapping[str, float], epoch: int) -> None:
        """Queue a renewal in place of one that still waits."""
        self._renewal = (leases, epoch)
        self._kick()

    def _kick(self) -> None:
        if self._writer is None and not self._closed:
            self._writer = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while (message := self._next()) is not None:
                self.writing_since = self._now()
                await self._write(message)
        except Exception as error:  # noqa: BLE001 - whatever the transport says, the reader ends it
            log.debug("write failed", agent=self.peer.agent_id, error=repr(error))
        finally:
            self.writing_since = None
            self._writer = None

    def _next(self) -> Any:
        if self._closed:
            return None
        if self._commands:
            return self._commands.popleft()
        if self._renewal is not None:
            leases, epoch = self._renewal
            self._renewal = None
            self._commands.extend(orders.renewals(leases, epoch, self._now()))
            if self._commands:
                return self._commands.popleft()
        if not self._ack_due:
            return None
        self._ack_due, self._unacked = False, 0
        ready = min(self._owed) - 1 if self._owed else self._sequence
        if ready <= self._acked:
            return None
        self._acked = ready
        return orders.ack(ready)

    # ---- up --------------------------------------------------------------------------------------

    def received(self, sequence: int) -> None:
        """Note a message that need not be committed."""
        self._sequence = max(self._sequence, sequence)
        self._unacked += 1
        if self._unacked >= ACK_EVERY:
            self._ack_due = True
            self._kick()

    def owe(self, sequence: int) -> Callable[[], None]:
        """Note a message that must be committed; call the result when it is."""
        self._sequence = max(self._sequence, sequence)
        self._owed[sequence] = self._owed.get(sequence, 0) + 1
        return self._payment(sequence)

    def _payment(self, sequence: int) -> Callable[[], None]:
        def paid() -> None:
            left = self._owed.pop(sequence, 0) - 1
            if left > 0:
                self._owed[sequence] = left
            self._ack_due = True
            self._kick()

        return paid

    def excuse(self, seconds: float) -> None:
        """Take back so much silence: it was our own absence."""
        self.heard_at += seconds
        if self.writing_since is not None:
            self.writing_since += seconds

    # ---- end -------------------------------------------------------------------------------------

    def end(self, code: grpc.StatusCode, text: str) -> None:
        """End the stream from outside with this status; the first reason stands."""
        if self.ending is None and not self._closed:
            self.ending = Refusal(code, text)
            self._task.cancel()

    def close(self) -> None:
        """Queue nothing more."""
        self._closed = True
        self._commands.clear()
        self._renewal = None

    async def settle(self, patience: float) -> None:
        """Wait for the message that is being written: a status must not overtake it."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=patience)
        if self._writer is not None:
            self._writer.cancel()
