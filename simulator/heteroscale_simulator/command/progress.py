"""How far a simulation is: a bar on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY = 10.0
"""Seconds from line to line."""
Tell = Callable[[float, float], None]
"""Is told (done, all), in whatever is being counted."""


class Watch(Protocol):
    """Whoever is told; a context, so that a bar leaves the terminal as it was."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, also after an error."""

    def stage(self, name: str) -> Tell:
        """Begin a stage and return what to tell how far it is."""


class Silent:
    """Nobody looks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, name: str) -> Tell:  # noqa: ARG002 - nobody looks
        """Begin a stage."""
        return lambda _done, _all: None


class Lines:
    """A line to ``out`` at most every ``EVERY`` seconds of ``clock``, and when a stage begins."""

    def __init__(self, out: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._told = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, name: str) -> Tell:
        """Begin a stage."""
        self._say(f"{name} …")

        def tell(done: float, of: float) -> None:
            if self._clock() - self._told >= EVERY:
                self._say(f"{name}: {done / of:.0%}" if of > 0 else name)

        return tell

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()
        self._told = self._clock()


class Bar:
    """A bar for each stage, gone at the end."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._last: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, name: str) -> Tell:
        """Begin a stage; the one before is done."""
        if self._last is not None:
            self._bar.update(self._last, completed=1.0)
        task = self._bar.add_task(name, total=1.0)
        self._last = task

        def tell(done: float, of: float) -> None:
            self._bar.update(task, completed=done / of if of > 0 else 0.0)

        return tell


def watch(*, quiet: bool, wanted: bool, console: Console) -> Watch:
    """Return who is told: a bar where a person looks on, lines where they are wanted."""
    if quiet:
        return Silent()
    if console.is_terminal:
        return Bar(console)
    return Lines(console.file) if wanted else Silent()
