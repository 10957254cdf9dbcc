"""The coordinator's clock and its ids: the only time and the only randomness that the core is given."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable


class SteadyClock:
    """Seconds since 1970: wall time at the start, monotonic from then on.

    A step of the wall clock under a running coordinator would end or freeze every cooldown, so it
    has no effect until a restart; ``floor``, the time of the last commit, is never gone behind.
    """

    def __init__(
        self,
        floor: float = 0.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._offset = max(wall(), floor) - monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return self._offset + self._monotonic()


def mint(kind: str) -> str:
    """Return a new unique id such as ``dec-5f0c93aa01be``."""
    return f"{kind}-{secrets.token_hex(6)}"
