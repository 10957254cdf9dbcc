"""The prefill engines: a slot each, which another may have when its engine has ended."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.crew import Crew
from heteroscale_simulator.plant.shifts import Shift
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
ENDED, PROMPTS, COMPUTED, TTFT_SUM = range(4)
"""Counters; their columns are those of ``Shift``'s done."""


class Slots:
    """Arrays by slot."""

    def __init__(self, kinds: int) -> None:
        self.types: Ints = np.zeros(0, np.int64)
        self.speeds: Floats = np.zeros(0)
        self.open: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.counters = np.zeros((0, 4))
        self._kinds = kinds
        self._free: list[int] = []

    def take(self, kind: int, speed: float) -> int:
        """Return a slot for a new engine, closed, its counters at 0."""
        if not self._free:
            self._free.append(len(self.types))
            self.types = np.append(self.types, 0)
            self.speeds = np.append(self.speeds, 0.0)
            self.open = np.append(self.open, False)
            self.counters = np.concatenate((self.counters, np.zeros((1, 4))))
        slot = self._free.pop()
        self.types[slot], self.speeds[slot] = kind, speed
        self.counters[slot] = 0.0
        return slot

    def give(self, slot: int) -> None:
        """Free a slot; no shift holds anything of it any more."""
        self.open[slot] = False
        self._free.append(slot)

    def crew(self) -> Crew | None:
        """Return the open ones; None if there are none."""
        if not self.open.any():
            return None
        # Copies: a shift keeps its types when a slot gets another engine.
        return Crew(self.types.copy(), self.speeds * self.open, self._kinds)

    def queue_shares(self) -> Floats:
        """Return each one's part of the queue, by speed; nobody's where nobody is open."""
        weights = self.speeds * self.open
        shares: Floats = weights / max(float(weights.sum()), 1e-12)
        return shares

    def count(self, shift: Shift, done: Floats) -> None:
        """Add what ended, by type, to the counters of a shift's engines."""
        self.counters[: len(shift.shares)] += done[shift.types] * shift.shares[:, None]

    def held(self, shifts: Iterable[Shift]) -> tuple[Floats, Floats, Floats]:
        """Return, by slot: requests computed or held, their prompt tokens, requests computed."""
        found = np.zeros((3, len(self.types)))
        for shift in shifts:
            sums = np.vstack((shift.holds, shift.computes))
            found[:, : len(shift.shares)] += sums[:, shift.types] * shift.shares
        np.maximum(found, 0.0, out=found)
        return found[0], found[1], found[2]
