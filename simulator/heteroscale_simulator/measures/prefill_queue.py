"""Prompts before prefill instances: who has the first token in time, and how many that takes.

As the plant does it (``plant.prefill``): a prompt that finds an instance free is done alone. One that
waits is taken by the first that is free, with all that wait beside it: it costs S(B) L/B of a batch of B
tokens, and takes all of S(B). Then it travels, and has its first token a decode step later. What waits
makes the batches, and the batches make what waits: a few rounds bring the two into line.
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
_TINY = 1e-9


@dataclass(frozen=True)
class _Cost:
    """What prompts cost in their batches."""

    part: Floats
    """Seconds that are a prompt's own part of its batch; shape (minutes, classes)."""
    company: Floats
    """Seconds that are the others' part, which it waits for too; the same shape."""
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
        nobody = np.zeros(len(self.rate))
        alone = self._cost(nobody, nobody)
        self.work = alone.work
        """Seconds of one instance's time that arrive per second, each prompt prefilled alone."""
        self.room: Floats = self._room - alone.part
        """Seconds that a request may wait; negative: too late on a free instance."""
        together = self._cost(nobody + 1e9, nobody + 1)
        self._least_work = np.minimum(alone.work, together.work)

    def met(self, instances: Floats, share: Floats) -> Floats:
        """Return the share met in time of those who can be, with ``share`` of the arrivals."""
        queue, cost = self._settled(instances, share)
        can = self.rate * (self.room >= 0)
        room = self._room - cost.part
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
        rate = self.rate.sum(axis=1) * share
        length = _per(self.rate * self._tokens, self.rate)
        crowd, mixed = np.zeros_like(rate), np.zeros_like(rate)
        cost = self._cost(crowd, mixed)
        queue = waiting(instances, cost.work * share, 1.0)
        for _ in range(_ROUNDS):
            part = _per(self.rate * cost.part, self.rate)
            queue = self._alone(cost, part, instances, share)
            kept_up = queue.probability < 1
            load = np.where(kept_up, cost.work * share / np.maximum(instances, 1.0), 1.0)
            expected = np.where(kept_up, queue.probability * queue.mean, 0.0)
            first_free = expected / ((instances + 1) / 2 + load)
            beside = 2 * rate * first_free * length
            # Whoever cannot keep up with small batches lets more wait, until it can.
            more = np.minimum(np.maximum(2 * crowd, length), self._largest)
            company = _per(self.rate * cost.company, self.rate)
            fits = np.minimum(1.0, company * length / np.maximum(part * crowd, _TINY))
            wait = expected - fits * (expected - first_free) + company
            crowd = np.where(kept_up, (crowd + beside) / 2, more)
            mixed = np.where(kept_up, (mixed + queue.probability) / 2, 1.0)
            mean = wait / np.maximum(queue.probability, _TINY)
            queue = Waiting(queue.probability, np.where(kept_up, mean, np.inf))
            cost = self._cost(crowd, mixed)
        return queue, cost

    def _alone(self, cost: _Cost, part: Floats, instances: Floats, share: Floats) -> Waiting:
        """Return the wait of prompts that are done one by one."""
        square = _per(self.rate * cost.part**2, self.rate)
        spread = np.where(part > 0, square / np.maximum(part, _TINY) ** 2, 1.0)  # 1 + c_s²
        return waiting(instances, cost.work * share, part, spread / 2)

    def _cost(self, crowd: Floats, mixed: Floats) -> _Cost:
        """Return the cost when a share ``mixed`` of prompts is batched, with ``crowd`` tokens a prompt.

        Both by minute; the crowd is the mean over all prompts, batched or not.
        """
        tokens = self._tokens
        # A batch is filled up to the first prompt that does not fit: half a prompt short on average.
        short = _per(self.rate * tokens**2, 2 * self.rate * tokens)
        room = np.maximum(self._largest - short[:, None] - tokens, _TINY)
        beside = (crowd / np.maximum(mixed, _TINY))[:, None]
        batch = tokens + beside / np.sqrt(1 + (beside / room) ** 2)
        alone, whole = self._seconds(tokens), self._seconds(batch)
        share = mixed[:, None]
        mine = whole * np.where(batch > 0, tokens / np.maximum(batch, _TINY), 0.0) * share
        part = alone * (1 - share) + mine
        return _Cost(part, whole * share - mine, (self.rate * part).sum(axis=1))

    def _seconds(self, tokens: Floats) -> Floats:
        types = np.zeros(tokens.size, dtype=np.int64)
        return self._grid.prefill_seconds(types, tokens.ravel()).reshape(tokens.shape)


def _per(values: Floats, weights: Floats) -> Floats:
    """Return Σ values ÷ Σ weights over the classes of each minute; 0 where there is nothing."""
    total = weights.sum(axis=1)
    mean: Floats = np.where(total > 0, values.sum(axis=1) / np.where(total > 0, total, 1.0), 0.0)
    return mean
