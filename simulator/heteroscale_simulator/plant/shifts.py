"""What prefill engines compute and hold: a calendar for each shift, the time in which a crew stays.

Work is given to engines in fixed shares while the crew is the same. So what one of them holds is its
share of the shift's calendar, and nothing is kept for each engine and each second.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.cohorts import BORN, COUNT, WIDTH
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
_HORIZON = 64
_INSTANT = 1e-9


class Shift:
    """One crew's work: cells by (second, type, class) of when its KV has been fetched."""

    def __init__(self, types: Ints, shares: Floats, kinds: int, classes: int) -> None:
        """``types`` and ``shares`` are by slot; a type's shares add up to 1 where it has engines."""
        self.types = types
        self.shares = shares
        self.leaving = np.zeros((_HORIZON, kinds, classes, WIDTH))
        self.last = 0
        """The last second with anything in it."""
        self._cells: Ints = np.arange(kinds * classes).reshape(kinds, classes)

    @property
    def holds(self) -> Floats:
        """Sums over all that has not left, by (type, column)."""
        sums: Floats = self.leaving.sum(axis=(0, 2))
        return sums

    def put(self, now: int, leaving: Floats, first: Floats, lasts: float) -> None:
        """Enter work of shape (types, classes, WIDTH) in second ``now``.

        It leaves evenly from ``first`` on, by (type, class), for ``lasts`` seconds, at most one.
        """
        early = first.astype(np.int64)
        # What leaves after the second has ended belongs to the next one.
        later = np.maximum(first - early + (lasts - 1.0), 0.0) / max(lasts, _INSTANT)
        self._reach(now, int(early.max()) + 1)
        size = len(self.leaving)
        flat = self.leaving.reshape(-1, WIDTH)
        step = self._cells.size
        part = leaving * later[..., None]
        flat[(early % size) * step + self._cells] += leaving - part
        flat[((early + 1) % size) * step + self._cells] += part

    def take(self, second: int) -> Floats:
        """Remove and return what leaves in ``second``, by (type, class, column)."""
        at = second % len(self.leaving)
        leaving: Floats = self.leaving[at].copy()
        self.leaving[at] = 0.0
        return leaving

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
        old = self.leaving
        self.leaving = np.zeros((size, *old.shape[1:]))
        self.leaving[seconds % size] = old[seconds % old_size]


def arrivals_of(cohort: Floats) -> tuple[Floats, Floats]:
    """Return the mean time of arrival and the number of requests of each class that has any."""
    there = cohort[cohort[:, COUNT] > 0]
    return there[:, BORN] / there[:, COUNT], there[:, COUNT]
