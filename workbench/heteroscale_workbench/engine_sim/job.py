"""One request inside the engine: where it stands, what it holds, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """Where a request stands. Which stages it passes depends on the mode.

    aggregated: waiting → running · prefill: bootstrap → waiting → running → inflight ·
    decode: prealloc → transfer → waiting → running.
    """

    BOOTSTRAP = "bootstrap"  # a prefill without its decode yet
    PREALLOC = "prealloc"  # a decode without room for the KV yet
    TRANSFER = "transfer"  # a decode whose KV is being computed or fetched
    WAITING = "waiting"
    RUNNING = "running"
    INFLIGHT = "inflight"  # a prefill whose KV is not fetched yet
    ENDED = "ended"


class EngineError(Exception):
    """A request failed inside the engine; ``status`` is the HTTP status its client gets."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Where a request's prefill and decode meet, as the router put it into the body."""

    host: str
    port: int
    room: int


@dataclass(slots=True, eq=False)
class Job:
    """A request. ``arrived`` and ``last_at`` are seconds of the loop's clock."""

    request_id: str
    prompt_tokens: int
    max_tokens: int
    streaming: bool
    arrived: float
    bootstrap: Bootstrap | None = None
    stage: Stage = Stage.WAITING
    reserved: int = 0
    """KV tokens set aside; given back at the end."""
    generated: int = 0
    last_at: float = 0.0
    unsent: int = 0
    """Tokens made but not yet written by anyone."""
    frame: bytes = b""
    sink: Callable[[bytes], None] | None = None
    """Once set, the loop itself writes ``frame`` for every token but the last."""
    fetch: asyncio.Task[None] | None = None
    first: asyncio.Future[None] = field(init=False)
    """Ready at the first token; fails with EngineError."""
    done: asyncio.Future[None] = field(init=False)
    """Ready after the last token; fails with EngineError."""

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first = loop.create_future()
        self.done = loop.create_future()

    def succeed(self) -> None:
        """Wake whoever waits for the end."""
        for future in (self.first, self.done):
            if not future.done():
                future.set_result(None)

    def fail(self, error: EngineError) -> None:
        """Wake whoever waits, with ``error``."""
        for future in (self.first, self.done):
            if not future.done():
                future.set_exception(error)
                future.exception()  # taken note of, even if its client is gone already
