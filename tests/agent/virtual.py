"""An event loop in virtual time: when nothing is left to do, the clock jumps to the next timer.

Sockets of this process work as ever, both ends in the same loop. Threads do not count as something to
do: whoever waits for one must not have a timer beside it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

Result = TypeVar("Result")

_GRACE = 0.001
"""Real seconds for the kernel to pass on what was written to a socket."""


class _Selector(selectors.DefaultSelector):
    """Never waits for time to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        # Beside the loop's own pipe no file is open: then nothing but time can come.
        alone = len(self.get_map()) <= 1
        found = super().select(None if timeout is None else 0 if alone else _GRACE)
        if not found and timeout is not None:
            self.skipped += timeout
        return found

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return super().get_map() or {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 1,000 s."""

    def __init__(self) -> None:
        self._skipping = _Selector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.skipped


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run ``work`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
