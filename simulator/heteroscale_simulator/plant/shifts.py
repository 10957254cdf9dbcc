"""What prefill engines compute and hold: a calendar for each shift, the time in which a crew stays.

Work is given to engines in fixed shares while the crew is the same. So what one of them holds is its
share of the shift's calendar, and nothing is kept for each engine and each second.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.cohorts import COUNT, INPUT, WIDTH
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
DONE = 4
"""Columns of what a prefill adds to counters at its end: requests, prompt tokens, computed, Σ TTFT."""
_HORIZON = 64
_TINY = 1e-12


class Shift:
    """One crew's work: cells by (second, type, class) of when it ends."""

    def __init__(self, types: Ints, shares: Floats, kinds: int, classes: int) -> None:
        """``types`` and ``shares`` are by slot; a type's shares add up to 1 where it has engines."""
        self.types = types
        self.shares = shares
        self.leaving = np.zeros((_HORIZON, kinds, classes, WIDTH))
        """When KV has been fetched: what goes on to decode."""
        self.computed = np.zeros((_HORIZON, kinds, classes, DONE))
        """When the prompt is through."""
        self.holds = np.zeros((2, kinds))
        """Requests and prompt tokens that have not left, by type."""
        self.computes = np.zeros(kinds)
        """Requests of those whose prompt is not through."""
        self.last = 0
        """The last second with anything in it."""
        kind, row = np.indices((kinds, classes))
        self._kind, self._row = kind, row

    def put(
        self, now: int, leaving: Floats, done: Floats, when: tuple[Floats, Floats, Floats]
    ) -> None:
        """Enter work of shape (types, classes, …) in second ``now``; what ends sooner has been taken.

        ``when`` is, by (type, class): the first and the last moment of leaving, evenly between and at
        most a second apart, and how long before each its prompt was through.
        """
        first, last, before = when
        self._reach(now, int(last.max()))
        self._enter(self.leaving, leaving, first, last)
        self._enter(self.computed, done, first - before, last - before)
        self.holds += leaving[..., (COUNT, INPUT)].sum(axis=1).T
        self.computes += done[..., 0].sum(axis=1)

    def _enter(self, calendar: Floats, sums: Floats, first: Floats, last: Floats) -> None:
        early, late = first.astype(np.int64), last.astype(np.int64)
        horizon = len(calendar)
        if (late > early).any():
            second = np.where(late > early, (last - late) / np.maximum(last - first, _TINY), 0.0)
            part = sums * second[..., None]
            calendar[late % horizon, self._kind, self._row] += part
            sums = sums - part
        calendar[early % horizon, self._kind, self._row] += sums

    def take(self, second: int) -> tuple[Floats, Floats]:
        """Remove and return what ends in ``second``: leaving by class, done by type."""
        at = second % len(self.leaving)
        leaving = self.leaving[at].sum(axis=0)
        done = self.computed[at].sum(axis=1)
        self.holds -= self.leaving[at][..., (COUNT, INPUT)].sum(axis=1).T
        self.computes -= done[:, 0]
        self.leaving[at] = 0
        self.computed[at] = 0
        return leaving, done

    def drop(self, slot: int) -> Iterator[Floats]:
        """Take a slot's part out of it; yield what that was, by (class, columns), a second each."""
        if slot >= len(self.shares) or not self.shares[slot]:
            return
        share = float(self.shares[slot])
        kind = int(self.types[slot])
        held = self.leaving[:, kind]
        yield from held[held[..., COUNT].any(axis=1)] * share
        rest = 1 - share
        self.leaving[:, kind] *= rest
        self.computed[:, kind] *= rest
        self.holds[:, kind] *= rest
        self.computes[kind] *= rest
        self.shares[slot] = 0.0
        if rest > 0:
            self.shares[self.types == kind] /= rest

    def _reach(self, now: int, last: int) -> None:
        self.last = max(self.last, last)
        size = old_size = len(self.leaving)
        while last - now >= size:
            size *= 2
        if size == old_size:
            return
        seconds = np.arange(now, now + old_size)
        old, old_done = self.leaving, self.computed
        self.leaving = np.zeros((size, *old.shape[1:]))
        self.computed = np.zeros((size, *old_done.shape[1:]))
        self.leaving[seconds % size] = old[seconds % old_size]
        self.computed[seconds % size] = old_done[seconds % old_size]
