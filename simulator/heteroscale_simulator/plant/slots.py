"""The prefill engines: a slot each, which another may have when its engine has ended."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.cohorts import PREFILLED, WIDTH
from heteroscale_simulator.plant.crew import Crew
from heteroscale_simulator.plant.shifts import Shift
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
COUNTED = PREFILLED + 1
"""Counters are the first columns of cohorts: requests that ended, prompt tokens, tokens that those will
have, computed prompt tokens, seconds to the end of prefill."""


class Slots:
    """Arrays by slot."""

    def __init__(self, capacity: Floats) -> None:
        """``capacity``: KV tokens by GPU type."""
        self.types: Ints = np.zeros(0, np.int64)
        self.speeds: Floats = np.zeros(0)
        self.open: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.counters = np.zeros((0, COUNTED))
        self.longest = 0.0
        """The most KV tokens an open engine has; 0 where nobody is open."""
        self._capacity = capacity
        self._free: list[int] = []

    def take(self, kind: int, speed: float) -> int:
        """Return a slot for a new engine, closed, its counters at 0."""
        if not self._free:
            self._free.append(len(self.types))
            self.types = np.append(self.types, 0)
            self.speeds = np.append(self.speeds, 0.0)
            self.open = np.append(self.open, False)
            self.counters = np.concatenate((self.counters, np.zeros((1, COUNTED))))
        slot = self._free.pop()
        self.types[slot], self.speeds[slot] = kind, speed
        self.counters[slot] = 0.0
        return slot

    def give(self, slot: int) -> None:
        """Free a slot; no shift holds anything of it any more."""
        self.open[slot] = False
        self._free.append(slot)

    def settle(self) -> Crew | None:
        """Return the engines that are open now; None if there are none."""
        self.longest = float(self._capacity[self.types[self.open]].max(initial=0.0))
        if not self.open.any():
            return None
        # Copies: a shift keeps its types when a slot gets another engine.
        return Crew(self.types.copy(), self.speeds * self.open, len(self._capacity))

    def queue_shares(self) -> Floats:
        """Return each one's part of the queue, by speed; nobody's where nobody is open."""
        weights = self.speeds * self.open
        shares: Floats = weights / max(float(weights.sum()), 1e-12)
        return shares

    def count(self, shift: Shift, leaving: Floats) -> None:
        """Add what left, by (type, class, column), to the counters of a shift's engines."""
        sums = leaving[..., :COUNTED].sum(axis=1)
        self.counters[: len(shift.shares)] += sums[shift.types] * shift.shares[:, None]

    def held(self, shifts: Iterable[Shift]) -> Floats:
        """Return what is computed or held for a fetch, by (slot, column of cohorts)."""
        found = np.zeros((len(self.types), WIDTH))
        for shift in shifts:
            found[: len(shift.shares)] += shift.holds[shift.types] * shift.shares[:, None]
        return found
