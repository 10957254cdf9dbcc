"""A source that may block, read again and again: what it last said, and how long ago that was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from heteroscale_agent.ports import Clock
from heteroscale_agent.probes.worker import Worker

log = structlog.get_logger(__name__)

Value = TypeVar("Value")


class BlockingSource(Generic[Value]):
    """A source that may block, in a thread of its own; at most one read at a time."""

    def __init__(self, name: str, worker: Worker, read: Callable[[], Value], clock: Clock) -> None:
        self._name, self._worker, self._read, self._clock = name, worker, read, clock
        self._reading: asyncio.Future[Value] | None = None
        self._began = 0.0
        self._value: Value | None = None
        self._value_at = 0.0
        self._failed = False
        self.took = 0.0
        """Seconds of the last read, failed or not."""

    @property
    def busy(self) -> bool:
        """Whether the last read is still under way."""
        return self._reading is not None and not self._reading.done()

    def start(self) -> asyncio.Future[Value]:
        """Begin to read, unless the last read is still under way."""
        self._collect()
        if self._reading is None:
            self._began = self._clock()
            self._reading = self._worker.call(self._read)
            self._reading.add_done_callback(self._note_end)
        return self._reading

    def latest(self, oldest: float) -> Value | None:
        """Return what was last read, if that was begun at or after `oldest`."""
        self._collect()
        return self._value if self._value is not None and self._value_at >= oldest else None

    def _note_end(self, _: asyncio.Future[Value]) -> None:
        self.took = self._clock() - self._began

    def _collect(self) -> None:
        if self._reading is None or not self._reading.done():
            return
        error = self._reading.exception()
        if error is None:
            self._value, self._value_at = self._reading.result(), self._began
        elif not self._failed:
            log.warning("source failed", source=self._name, error=repr(error))
        self._failed = error is not None
        self._reading = None
