"""The open prefill engines of one moment, and what a prompt costs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.cohorts import means
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]


class Crew:
    """Who is open. Immutable: who opens or closes makes another crew."""

    def __init__(self, types: Ints, speeds: Floats, kinds: int) -> None:
        """``types`` and ``speeds`` are by slot; a speed of 0 is not open. ``kinds``: GPU types."""
        open_types = types[speeds > 0]
        engines: Ints = np.bincount(open_types, minlength=kinds).astype(np.int64)
        self.types = types
        self.capacity: Floats = np.bincount(types, speeds, kinds).astype(np.float64)
        """Σ speed by type: seconds of work a second at speed 1."""
        self.total = float(self.capacity.sum())
        self.engines = len(open_types)
        mean = means(self.capacity, engines.astype(np.float64))
        self.mean_speed: Floats = np.where(mean > 0, mean, 1.0)[:, None]
        """By type, in a column; 1 where nobody is open."""
        self.shares: Floats = speeds / np.where(self.capacity > 0, self.capacity, 1.0)[types]
        """Of its type's work, by slot."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a second's arrivals cost a crew."""

    own: Floats
    """Seconds from start to end of a prefill that holds such a prompt, by (type, class)."""
    part: Floats
    """Seconds of those that are its own part, by (type, class)."""
    split: Floats
    """Share of the requests that goes to each type, in a column."""
    drain: float
    """Seconds in which the whole crew does all of it."""
    tokens: Floats
    """Mean cache-missed prompt tokens by class."""
    seconds_per_token: Floats
    """Of an engine's time at speed 1, by type; 0 where there are no tokens."""


class Costs:
    """Prices prompts; ``crowd`` is what they are batched with."""

    def __init__(self, grid: SpeedGrid, cache_hit: float) -> None:
        self._grid = grid
        self._missed = 1.0 - cache_hit
        self._limits: Floats = grid.max_prefill_tokens[:, None]
        self._flat: Ints = np.zeros(0, np.int64)
        self.crowd = 0.0
        """Tokens of others that wait when a prefill starts."""

    def of(self, requests: Floats, input_tokens: Floats, crew: Crew) -> Cost:
        """Return the cost of ``requests`` with ``input_tokens`` in all, by class, to ``crew``.

        A prompt of L tokens in a batch of B costs S(B) · L/B and takes S(B).
        """
        tokens = means(input_tokens, requests) * self._missed
        batch = self._batches(requests, tokens)
        types = self._types(*batch.shape)
        whole = self._grid.prefill_seconds(types, batch.ravel()).reshape(batch.shape)
        own = whole / crew.mean_speed
        each = whole * (tokens / np.maximum(batch, 1e-9))
        work = each @ requests
        # Types get requests as fast as they do them, so that they are through at the same time.
        rates = np.where(crew.capacity > 0, crew.capacity / np.maximum(work, 1e-12), 0.0)
        rate = float(rates.sum())
        every = float(requests @ tokens)
        per_token = work / every if every else work
        split = (rates / rate)[:, None]
        return Cost(own, each / crew.mean_speed, split, 1.0 / rate, tokens, per_token)

    def _types(self, kinds: int, classes: int) -> Ints:
        if len(self._flat) != kinds * classes:
            self._flat = np.arange(kinds).repeat(classes)
        return self._flat

    def _batches(self, requests: Floats, tokens: Floats) -> Floats:
        """Return the tokens of the batch that a prompt of each class is in, by (type, class)."""
        if not self.crowd:
            alone: Floats = np.broadcast_to(tokens, (len(self._limits), len(tokens)))
            return alone
        # First come, first served fills a batch up to the first prompt that does not fit: half a
        # prompt short on average, a long one being met more often.
        sums = float(requests @ tokens)
        short = float(requests @ (tokens * tokens)) / (2 * sums) if sums else 0.0
        most = np.maximum(tokens, self._limits - short)
        result: Floats = np.minimum(tokens + self.crowd, most)
        return result
