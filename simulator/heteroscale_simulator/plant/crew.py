"""The open prefill engines of one moment, and what a prompt costs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant.cohorts import means
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
_TINY = 1e-9


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
    """Seconds from start to end of a prefill that holds such a prompt and its share of the queue that
    stands, by (type, class), as are the next two."""
    part: Floats
    """Seconds that are its own part of a batch."""
    company: Floats
    """Seconds that are the others' part, those that come by chance too."""
    split: Floats
    """Share of the requests that goes to each type, in a column."""
    drain: float
    """Seconds in which the whole crew does all of it."""
    tokens: Floats
    """Mean cache-missed prompt tokens by class."""
    seconds_per_token: Floats
    """Of an engine's time at speed 1, by type; 0 where there are no tokens."""


class Costs:
    """Prices prompts: of a share ``mixed`` that is batched with others, and of the rest, alone."""

    def __init__(self, grid: SpeedGrid, cache_hit: float) -> None:
        self._grid = grid
        self._missed = 1.0 - cache_hit
        self._limits: Floats = grid.max_prefill_tokens[:, None]
        self._flat: Ints = np.zeros(0, np.int64)
        self.crowd = 0.0
        """Tokens of others that are in a prompt's batch, on average over all."""
        self._mixed = 0.0
        self.by_chance = 0.0
        """The share of the crowd that is no queue that stands."""

    def join(self, standing: float, by_chance: float, chance: float) -> None:
        """Note the tokens that wait, and the share of prompts that do.

        By half of the change, so that crowd and batch do not swing.
        """
        self.crowd += (standing + by_chance - self.crowd) / 2
        self._mixed += (chance - self._mixed) / 2
        self.by_chance = by_chance / max(standing + by_chance, _TINY)

    def of(self, requests: Floats, input_tokens: Floats, crew: Crew) -> Cost:
        """Return the cost of ``requests`` with ``input_tokens`` in all, by class, to ``crew``.

        A prompt of L tokens in a batch of B costs S(B) · L/B and takes S(B).
        """
        tokens = means(input_tokens, requests) * self._missed
        batch = self._batches(requests, tokens)
        kinds, classes = batch.shape
        both = np.empty((2, kinds, classes))
        both[0], both[1] = tokens, batch
        alone, whole = self._seconds(both) / crew.mean_speed
        mine = whole * (tokens / np.maximum(batch, _TINY)) * self._mixed
        company = whole * self._mixed - mine
        part = alone * (1.0 - self._mixed) + mine
        work = (part @ requests) * crew.mean_speed[:, 0]
        # Types get requests as fast as they do them, so that they are through at the same time.
        rates = np.where(crew.capacity > 0, crew.capacity / np.maximum(work, _TINY), 0.0)
        rate = float(rates.sum())
        every = float(requests @ tokens)
        per_token = work / every if every else work
        own = part + company * (1.0 - self.by_chance)
        return Cost(own, part, company, (rates / rate)[:, None], 1.0 / rate, tokens, per_token)

    def _seconds(self, tokens: Floats) -> Floats:
        """Return seconds at speed 1 for tokens of shape (…, types, classes)."""
        if len(self._flat) != tokens.size:
            some, kinds, classes = tokens.shape
            self._flat = np.tile(np.arange(kinds).repeat(classes), some)
        return self._grid.prefill_seconds(self._flat, tokens.ravel()).reshape(tokens.shape)

    def _batches(self, requests: Floats, tokens: Floats) -> Floats:
        """Return the tokens of the batch that a prompt of each class is in, by (type, class)."""
        if not self.crowd:
            alone: Floats = np.broadcast_to(tokens, (len(self._limits), len(tokens)))
            return alone
        # First come, first served fills a batch up to the first prompt that does not fit: half a
        # prompt short on average, a long one being met more often.
        sums = float(requests @ tokens)
        short = float(requests @ (tokens * tokens)) / (2 * sums) if sums else 0.0
        room = np.maximum(self._limits - short - tokens, _TINY)
        crowd = self.crowd / max(self._mixed, _TINY)
        # The crowd is a mean: some batches are cut before it reaches the room there is.
        result: Floats = tokens + crowd / np.sqrt(1 + (crowd / room) ** 2)
        return result
