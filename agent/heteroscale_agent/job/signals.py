"""What tells a job's agent to end: heard from its first moment, before there is a loop to hear it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TELLING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""TERM of a scheduler, USR1 of srun, INT of a terminal."""


class Signals:
    """Keeps the signals that nobody hears yet, and hands each on once."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._tell: Callable[[], object] | None = None

    def take(self, number: int, _: FrameType | None = None) -> None:
        """Take one: the handler itself."""
        self._kept.append(number)
        self._hand_on()

    @contextmanager
    def to(self, tell: Callable[[], None]) -> Iterator[None]:
        """Have the running loop call ``tell`` for each signal, those of before first."""
        loop = asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(tell)
        try:
            self._hand_on()
            yield
        finally:
            self._tell = None

    def _hand_on(self) -> None:
        # A signal may come in here at any step: each is popped by one of the two alone.
        while (tell := self._tell) is not None:
            try:
                self._kept.pop()
            except IndexError:
                return
            tell()


@contextmanager
def heard() -> Iterator[Signals]:
    """Hear signals from now on instead of being ended by them."""
    signals = Signals()
    before = {number: signal.signal(number, signals.take) for number in TELLING}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
