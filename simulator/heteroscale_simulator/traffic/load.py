"""Arrivals by the second, in classes of alike requests: what every plant plays and the oracle reads.

A second's arrivals are held as sums over at most ``classes`` groups of alike length, so that a long
trace costs memory by its duration, never by its number of requests, and the tail of the prompt
lengths stays apart from the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """What arrives. Arrays of shape (seconds, classes); second 0 is the run's first.

    Every value is ≥ 0 and finite; where ``requests`` is 0 the sums are 0.
    """

    requests: Floats
    """Requests that arrive in the second, of the class; whole numbers or not."""
    input_tokens: Floats
    """Σ prompt tokens of those requests."""
    output_tokens: Floats
    """Σ tokens that they will generate, the first included; at least one a request."""
    notes: tuple[str, ...] = ()
    """What a person should know of how this load was read or made; sentences."""

    @property
    def seconds(self) -> int:
        """Length of the run's arrivals in seconds."""
        return int(self.requests.shape[0])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.requests.shape[1])

    @cached_property
    def total_requests(self) -> float:
        """Σ requests."""
        return float(self.requests.sum())

    def by_minute(self, column: str) -> Floats:
        """Return the mean per second in each minute, summed over classes, of one of the three arrays.

        The last minute may be short; its mean is over the seconds it has.
        """
        values: Floats = getattr(self, column).sum(axis=1)
        starts = np.arange(0, self.seconds, 60)
        sums = np.add.reduceat(values, starts)
        lengths = np.minimum(60, self.seconds - starts)
        means: Floats = sums / lengths
        return means

    def cut(self, start: int = 0, seconds: int | None = None) -> Load:
        """Return ``seconds`` of it from ``start`` on (None: to its end), as a load of its own.

        Raises:
            ValueError: it is not so long, or nothing would be left.

        """
        if not 0 <= start < self.seconds:
            raise ValueError(f"start at {start} s: the traffic lasts {self.seconds} s")
        if seconds is not None and seconds < 1:
            raise ValueError(f"a duration of {seconds} s: at least 1 is needed")
        part = slice(start, None if seconds is None else start + seconds)
        return Load(
            self.requests[part], self.input_tokens[part], self.output_tokens[part], self.notes
        )
