"""Prompts before prefill instances: who has the first token in time, and how many that takes.

A prompt waits as ``plant.queueing`` says, is prefilled together with what waits beside it (as the
plant does it: a prompt of L tokens in a batch of B costs S(B) L/B and takes S(B)), travels, and has
its first token a decode step later. What waits, makes the batches, and the batches make what waits:
the two are brought into line by a few rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.measures.capacity import QUANTILE, SLACK, Counts, Journey
from heteroscale_simulator.measures.minutes import Minutes
from heteroscale_simulator.plant.queueing import Waiting, waiting
from heteroscale_simulator.profiles import GpuProfile
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

_ROUNDS = 12
_HALVINGS = 40


@dataclass(frozen=True)
class _Cost:
    """What prompts cost in their batches."""

    own: Floats
    """Seconds of the batch that a prompt is in; shape (minutes, classes)."""
    work: Floats
    """Seconds of one instance's time that arrive per second; shape (minutes,)."""


class PrefillQueue:
    """A load's prompts, by minute and class, before instances of ``speed``.

    ``first_step`` is the decode step that ends TTFT, in seconds, by minute. Arrivals inside a minute
    are taken as Poisson. ``rate`` (requests/s) and ``room`` have shape (minutes, classes), ``work``
    (minutes,).
    """

    def __init__(
        self, minutes: Minutes, speed: GpuProfile, journey: Journey, first_step: Floats
    ) -> None:
        self.rate = minutes.rate
        self._tokens = journey.missed(minutes.prompt)
        self._grid = SpeedGrid([speed])
        self._largest = float(speed.max_prefill_tokens)
        limit = np.inf if journey.slo.ttft is None else journey.slo.ttft * (1 + SLACK)
        self._room: Floats = limit - journey.transfer(minutes.prompt) - first_step[:, None]
        alone = self._cost(np.zeros(len(self.rate)))
        self.work = alone.work
        """Seconds of one instance's time that arrive per second, each prompt prefilled alone."""
        self.room: Floats = self._room - alone.own
        """Seconds that a request may wait; negative: too late on a free instance."""
        together = self._cost(np.full(len(self.rate), np.inf))
        self._least_work = np.minimum(alone.work, together.work)

    def met(self, instances: Floats, share: Floats) -> Floats:
        """Return the share met in time of those who can be, with ``share`` of the arrivals."""
        queue, cost = self._settled(instances, share)
        can = self.rate * (self.room >= 0)
        room = self._room - cost.own
        late = np.stack([queue.beyond(column) for column in room.T], axis=1)
        all_of_them = can.sum(axis=1)
        some = np.where(all_of_them > 0, all_of_them, 1.0)
        in_time = 1 - (can * late).sum(axis=1) / some
        stable = (cost.work * share < instances) | (cost.work <= 0)
        held: Floats = np.where(all_of_them > 0, in_time, 1.0) * stable
        return held

    def need(self, share: Floats) -> Counts:
        """Return the fewest instances for ``share`` (0 to 1, by minute) of the arrivals."""
        low = np.floor(self._least_work * share)  # not enough, unless there is no work
        high, stride = low + 1, np.ones_like(low)
        while (wanting := ~self._holds(high, share)).any():
            low = np.where(wanting, high, low)
            stride = np.where(wanting, stride * 2, stride)
            high = np.where(wanting, high + stride, high)
        while (apart := high - low > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self._holds(middle, share)
            high = np.where(apart & enough, middle, high)
            low = np.where(apart & ~enough, middle, low)
        return np.where(self.work * share > 0, high, 0).astype(np.int64)

    def held_share(self, instances: int, most: float = 1.0) -> Floats:
        """Return the largest share (0 to ``most``) of each minute's arrivals that so many hold."""
        count = np.full_like(self.work, instances)
        low, high = np.zeros_like(self.work), np.full_like(self.work, most)
        low = np.where(self._holds(count, high), most, low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            enough = self._holds(count, middle)
            low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        return low

    def most_share(self, instances: int) -> Floats:
        """Return the share of each minute's arrivals beyond which a queue would grow for ever."""
        return np.where(self._least_work > 0, instances / np.maximum(self._least_work, 1e-12), 1.0)

    @property
    def reachable(self) -> float:
        """Requests per second, summed over minutes, that a free instance answers in time."""
        return float((self.rate * (self.room >= 0)).sum())

    def _holds(self, instances: Floats, share: Floats) -> NDArray[np.bool_]:
        held: NDArray[np.bool_] = self.met(instances, share) >= QUANTILE
        return held

    def _settled(self, instances: Floats, share: Floats) -> tuple[Waiting, _Cost]:
        """Return the wait, and what prompts cost in the batches that it makes."""
        rate = self.rate.sum(axis=1)
        some = np.maximum(rate, np.finfo(np.float64).tiny)
        length = (self.rate * self._tokens).sum(axis=1) / some
        crowd = np.zeros_like(rate)
        for _ in range(_ROUNDS):
            cost = self._cost(crowd)
            queue = self._wait(cost, instances, share, 1 + crowd / np.maximum(length, 1.0))
            with np.errstate(invalid="ignore"):
                beside = rate * share * queue.probability * queue.mean * length
            # Whoever cannot keep up with small batches lets more wait, until it can.
            more = np.minimum(np.maximum(2 * crowd, length), self._largest)
            crowd = np.where(np.isfinite(beside), (crowd + beside) / 2, more)
        cost = self._cost(crowd)
        return self._wait(cost, instances, share, 1 + crowd / np.maximum(length, 1.0)), cost

    def _wait(self, cost: _Cost, instances: Floats, share: Floats, together: Floats) -> Waiting:
        total = np.maximum(self.rate.sum(axis=1), np.finfo(np.float64).tiny)
        mean = (self.rate * cost.own).sum(axis=1) / total
        square = (self.rate * cost.own**2).sum(axis=1) / total
        some = np.where(mean > 0, mean, 1.0)
        spread = np.where(mean > 0, np.maximum(square / some**2 - 1, 0.0), 0.0)  # c_s²
        return waiting(instances, cost.work * share, mean, (1 + spread / together) / 2)

    def _cost(self, crowd: Floats) -> _Cost:
        """Return the cost of prompts when ``crowd`` tokens of others wait, by minute."""
        tokens = self._tokens
        sums = (self.rate * tokens).sum(axis=1)
        # A batch is filled up to the first prompt that does not fit: half a prompt short on average.
        short = (self.rate * tokens**2).sum(axis=1) / np.maximum(2 * sums, 1e-12)
        most = np.maximum(tokens, (self._largest - short)[:, None])
        batch = np.minimum(tokens + crowd[:, None], most)
        types = np.zeros(batch.size, dtype=np.int64)
        own = self._grid.prefill_seconds(types, batch.ravel()).reshape(batch.shape)
        part = np.where(batch > 0, tokens / np.maximum(batch, 1e-12), 0.0)
        return _Cost(own, (self.rate * own * part).sum(axis=1))
