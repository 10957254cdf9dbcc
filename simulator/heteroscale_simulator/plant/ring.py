"""Who is in the decode batches, by the token clock at which they end.

Each engine has a clock that counts its steps. A request that joins at clock T ends at T + its output
tokens, whatever happens to the step time meanwhile. Buckets of some tokens hold sums over those that
end there; a bucket ends when the clock passes its middle, and what is written down is exact again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
IN_BATCH, PROMPTS, CLOCKS, TOKENS, JOINED, CAME, HOPES = range(7)
"""Columns: requests, Σ prompt tokens, Σ clock at joining, Σ output tokens, Σ time of joining, Σ time of
arrival, and how many of them met the TTFT promise."""
COLUMNS = 8
"""One more than there are: rows of 64 bytes are fetched faster."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole part, are as even as can be at any length."""


class Ring:
    """Buckets of shape (engines, buckets, COLUMNS), each a ring over its engine's clock."""

    def __init__(self, width: float) -> None:
        """``width``: tokens of a bucket."""
        self.width = width
        self.buckets = np.zeros((0, 64, COLUMNS))
        self.done: Ints = np.zeros(0, np.int64)
        """Buckets that have ended, by engine; the absolute number of the next to end."""
        self._bases: Ints = np.zeros(0, np.int64)
        self._ahead: Ints = np.arange(64)
        self._turn = 0.0

    @property
    def engines(self) -> int:
        """Number of engines."""
        return len(self.done)

    @property
    def size(self) -> int:
        """Buckets an engine has."""
        return int(self.buckets.shape[1])

    def join(self) -> None:
        """Add an engine, its clock at 0."""
        self.buckets = np.concatenate((self.buckets, np.zeros((1, self.size, COLUMNS))))
        self.done = np.append(self.done, 0)
        self._bases = np.arange(self.engines) * self.size

    def remove(self, at: int) -> None:
        """Take an engine out."""
        self.buckets = np.delete(self.buckets, at, axis=0)
        self.done = np.delete(self.done, at)
        self._bases = np.arange(self.engines) * self.size

    def put(self, each: Floats, spread: Floats, clocks: Floats) -> tuple[float, float]:
        """Add requests of several classes, spread over the engines; return how many, and Σ prompts.

        Args:
            each: sums by (class, column), CLOCKS left 0; every class has someone.
            spread: share of each that joins an engine.
            clocks: at which they join, by engine.

        """
        begins = (clocks / self.width).astype(np.int64)
        late = begins - self.done
        # Whole buckets, rounded up and down in turns: one length is not late or early for ever.
        self._turn = (self._turn + _GOLDEN) % 1.0
        lengths = each[:, TOKENS] / (each[:, IN_BATCH] * self.width) + self._turn
        # What would end in a bucket that has ended already ends in the next one.
        whole = np.maximum(lengths.astype(np.int64), -int(late.min()))
        alike, ahead = self._alike(each, whole)
        if (most := int(ahead[-1]) + int(late.max())) >= self.size:
            self._grow(most)
        joins = alike[:, None, :] * spread[:, None]
        count = alike[:, IN_BATCH]
        joins[..., CLOCKS] = count[:, None] * (spread * clocks)
        # No two rows of an engine are in one place: what ends together has been added up.
        places = (((begins + ahead[:, None]) & (self.size - 1)) + self._bases).ravel()
        flat = self.buckets.reshape(-1, COLUMNS)
        # Taken, added and put back: a third of the price of += with an index.
        flat[places] = flat.take(places, axis=0) + joins.reshape(-1, COLUMNS)
        return float(count.sum()), float(alike[:, PROMPTS].sum())

    @staticmethod
    def _alike(each: Floats, whole: Ints) -> tuple[Floats, Ints]:
        """Add up the classes of ``whole`` buckets alike; return sums and buckets, rising."""
        order = whole.argsort(kind="stable")
        ranks = whole[order]
        begins = np.flatnonzero(ranks[1:] != ranks[:-1]) + 1
        firsts = [0, *begins.tolist()]
        return np.add.reduceat(each[order], firsts, axis=0), ranks[firsts]

    def take(self, clocks: Floats) -> Floats:
        """Remove and return the buckets that end by ``clocks``: shape (engines, some, COLUMNS).

        Rows of engines with fewer of them are filled up with zeros.
        """
        ended = (clocks / self.width + 0.5).astype(np.int64)
        most = int((ended - self.done).max(initial=0))
        if most <= 0:
            return np.zeros((self.engines, 0, COLUMNS))
        # A clock that outran the ring: every bucket has ended, and none stands twice.
        most = min(most, self.size)
        wide = self._ahead[:most] + self.done[:, None]
        over = wide >= ended[:, None]
        places = ((wide & (self.size - 1)) + self._bases[:, None]).ravel()
        flat = self.buckets.reshape(-1, COLUMNS)
        rows = flat.take(places, axis=0)
        beyond = over.ravel()
        kept = rows * beyond[:, None]
        rows -= kept
        flat[places] = kept
        self.done = ended
        taken: Floats = rows.reshape(self.engines, most, COLUMNS)
        return taken

    def _grow(self, ahead: int) -> None:
        old = self.size
        size = old
        while size <= ahead:
            size *= 2
        wide = self.done[:, None] + np.arange(old)
        grown = np.zeros((self.engines, size, COLUMNS))
        rows = np.arange(self.engines)[:, None]
        grown[rows, wide & (size - 1)] = self.buckets[rows, wide & (old - 1)]
        self.buckets = grown
        self._bases = np.arange(self.engines) * size
        self._ahead = np.arange(size)
