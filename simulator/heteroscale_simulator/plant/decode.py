"""Decode: continuous batching on every engine, and one queue before all of them.

Each engine's clock moves on by 1/step tokens a second, the step being that of its batch and mean
context. Requests join the engines with the least batch for its size, while a batch has a place and KV
has room for what is resident, the prompt, and what will be generated; else they queue. What is resident
may outgrow the KV later, as in engines that preempt; here it is then only full.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.plant import ring as r
from heteroscale_simulator.plant.cohorts import BORN, COUNT, INPUT, OUTPUT, SPENT, met_after
from heteroscale_simulator.plant.port import Slo
from heteroscale_simulator.plant.ring import Ring
from heteroscale_simulator.plant.tally import FAILED, FINISHED, OUTPUT_TOKENS, TTFT_MET, Tally
from heteroscale_simulator.plant.water import fill
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats

Ints = NDArray[np.int64]
ENDED, GENERATED, RECEIVED, TBT_SUM, TBT_COUNT = range(5)
"""Counters by engine: requests that ended, their tokens, prompt tokens that came, seconds between tokens
and how many those were."""
_BY_ENGINE = ("steps", "batch", "_start", "_joined", "_left", "_clocks", "_middle")
SHORTEST = 0.02
"""Seconds that a request has its place at least: about a step."""
_LEAST = 1e-9
"""Shares below this are rounding."""
_ALMOST = 1.0 + _LEAST


@dataclass(slots=True)
class _Queued:
    cohort: Floats
    second: int
    requests: float
    admitted: float = 0.0


class Decode:
    """The decode engines of one service; arrays by engine, in order of joining."""

    def __init__(self, grid: SpeedGrid, slo: Slo, tally: Tally, bucket: float) -> None:
        """``bucket``: tokens of a bucket of the ring."""
        self.ring = Ring(bucket)
        self.types: Ints = np.zeros(0, np.int64)
        self.speeds: Floats = np.zeros(0)
        self.open: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.sums = np.zeros((3, 0))
        """IN_BATCH, PROMPTS and CLOCKS over the batch."""
        self.counters = np.zeros((5, 0))
        self.steps: Floats = np.zeros(0)
        """Seconds of a step in the last second."""
        self.first_step = 0.0
        """Seconds from joining to the first token: the rest of a running step, and one more."""
        self.waiting = 0.0
        """Requests that queue."""
        self.limit = 0.0
        """The most tokens a request may come to; 0 where nobody is open."""
        self.batch: Floats = np.zeros(0)
        """Mean requests in the batch over the last second."""
        self._start: Floats = np.zeros(0)
        self._joined: Floats = np.zeros(0)
        self._left: Floats = np.zeros(0)
        self._clocks: Floats = np.zeros(0)
        self._middle: Floats = np.zeros(0)
        self._queue: deque[_Queued] = deque()
        self._grid = grid
        self._slo = slo
        self._tally = tally
        self._resize()

    # ---- engines -------------------------------------------------------------------------------

    def join(self, kind: int, speed: float) -> None:
        """Add an engine, closed."""
        self.ring.join()
        self.types = np.append(self.types, kind)
        self.speeds = np.append(self.speeds, speed)
        self.open = np.append(self.open, False)
        self.sums = np.concatenate((self.sums, np.zeros((3, 1))), axis=1)
        self.counters = np.concatenate((self.counters, np.zeros((5, 1))), axis=1)
        for name in _BY_ENGINE:
            setattr(self, name, np.append(getattr(self, name), 0.0))
        self._resize()

    def remove(self, at: int) -> None:
        """Take an engine out; its batch fails."""
        self._tally_cut(self.ring.buckets[at], self._clocks[at])
        self.ring.remove(at)
        for name in ("types", "speeds", "open", *_BY_ENGINE):
            setattr(self, name, np.delete(getattr(self, name), at))
        self.sums = np.delete(self.sums, at, axis=1)
        self.counters = np.delete(self.counters, at, axis=1)
        self._resize()

    def let(self, at: int, *, take: bool) -> None:
        """Open or close an engine to new requests."""
        self.open[at] = take
        self._resize()

    def _resize(self) -> None:
        self.places: Floats = self._grid.max_batch[self.types]
        self.capacity: Floats = self._grid.kv_capacity[self.types]
        counted = self.open if self.open.any() else np.ones(len(self.open), np.bool_)
        self._weights: Floats = counted / max(int(counted.sum()), 1)
        before = self.limit
        self.limit = float(self.capacity[self.open].max(initial=0.0))
        if 0 < self.limit < before or not before:
            for queued in self._queue:
                self._refuse(queued.cohort, 1.0 - queued.admitted)
                queued.requests = float(queued.cohort[:, COUNT].sum())
            self.waiting = sum(q.requests * (1.0 - q.admitted) for q in self._queue)

    def queue_shares(self) -> Floats:
        """Return each one's part of the queue, by batch size; nobody's where nobody is open."""
        weights = self.places * self.open
        shares: Floats = weights / max(float(weights.sum()), 1e-12)
        return shares

    @property
    def resident(self) -> Floats:
        """KV tokens in use, by engine."""
        batch, prompts, clocks = self.sums
        tokens: Floats = np.maximum(prompts + batch * self._clocks - clocks, 0.0)
        return tokens

    @property
    def generated(self) -> Floats:
        """Tokens generated since the start, by engine; at the ends of buckets they are exact."""
        batch, _, clocks = self.sums
        tokens: Floats = self.counters[GENERATED] + batch * self._clocks - clocks
        return tokens

    # ---- a second ------------------------------------------------------------------------------

    def advance(self, now: int) -> None:
        """Let second ``now`` go by for those in the batches."""
        if not len(self.types):
            self.first_step = 0.0
            return
        batch = self.sums[0]
        context = self.resident / np.maximum(batch, 1e-9)
        # Who is in a batch sees himself and, arrivals being random, as many others as there are on
        # average.
        felt = np.minimum(self.batch + 1.0, self.places)
        self.steps = self._grid.step_seconds(self.types, felt, context) / self.speeds
        moved = 1.0 / self.steps
        self._start, self._joined = batch.copy(), np.zeros(len(batch))
        self._left = np.zeros(len(batch))
        began = self._clocks
        self._clocks = began + moved
        self._middle = began + 0.5 * moved
        self.counters[TBT_SUM] += batch
        self.counters[TBT_COUNT] += batch * moved
        rows = self.ring.take(self._clocks)
        if rows.shape[1]:
            ended = rows.sum(axis=1).T
            self.sums -= ended[: r.TOKENS]
            ends = (ended[r.CLOCKS] + ended[r.TOKENS] - ended[r.IN_BATCH] * began) / moved
            self._left = ended[r.IN_BATCH] - ends
            self.counters[ENDED] += ended[r.IN_BATCH]
            self.counters[GENERATED] += ended[r.TOKENS]
            self._tally_ended(now, rows, began, moved)
        running = 1.0 - exp(-float(self.batch @ self._weights))
        self.first_step = float(self.steps @ self._weights) * (1.0 + 0.5 * running)

    def receive(self, now: int, cohort: Floats) -> None:
        """Queue a cohort whose KV has come, and admit what has room."""
        self._refuse(cohort, 1.0)
        requests = float(cohort[:, COUNT].sum())
        if requests > 0:
            self._queue.append(_Queued(cohort, now, requests))
            self.waiting += requests
        while self._queue and self.limit:
            queued = self._queue[0]
            if queued.requests <= 0 or self._admit(now, queued):
                self._queue.popleft()
            else:
                break
        if not self._queue:
            self.waiting = 0.0
        # Buckets end a little early or late: what is between is no more than there are places.
        present = np.maximum(self._start + 0.5 * self._joined - self._left, 0.0)
        self.batch = np.minimum(present, self.places)

    def _admit(self, now: int, queued: _Queued) -> bool:
        """Admit what has room; return whether that was all."""
        cohort = queued.cohort
        left = queued.requests * (1.0 - queued.admitted)
        prompts, outputs = cohort[:, INPUT : OUTPUT + 1].sum(axis=0).tolist()
        batch, output = self.sums[0], outputs / queued.requests
        by_kv = (self.capacity - self.resident - output) * (queued.requests / max(prompts, 1e-9))
        free = np.maximum(np.minimum(self.places - batch, by_kv), 0.0)
        # A place that is left within the second is taken again in it.
        room = free * self.open / self._stay(cohort, queued.requests)
        taken = fill(batch, self.places, room, left)
        amount = min(left, float(taken.sum()))
        if amount <= 0:
            return False
        whole = amount >= left * (1.0 - _LEAST)
        share = 1.0 - queued.admitted if whole else amount / queued.requests
        # It came evenly over its second, and joins in the middle of this one.
        delay = max(0.0, now + 0.5 - (queued.second + queued.admitted + share / 2))
        self._join(now, cohort, share, taken / amount, delay)
        queued.admitted += share
        self.waiting -= amount
        return whole

    def _stay(self, cohort: Floats, requests: float) -> float:
        """Return the mean share of a second that a request of the cohort has its place in it."""
        step = float(self.steps @ self._weights)
        seconds = np.minimum(cohort[:, OUTPUT] * step, cohort[:, COUNT])
        return max(float(seconds.sum()) / requests, SHORTEST) if step else 1.0

    def _join(self, now: int, cohort: Floats, share: float, spread: Floats, delay: float) -> None:
        part = cohort[cohort[:, COUNT] > 0] * share
        count = part[:, COUNT]
        met = met_after(part, delay, self._slo.ttft)
        each = np.zeros((len(part), r.COLUMNS))
        each[:, r.IN_BATCH] = count
        each[:, r.PROMPTS] = part[:, INPUT]
        each[:, r.TOKENS] = part[:, OUTPUT]
        each[:, r.CAME] = part[:, BORN]
        each[:, r.HOPES] = met
        each[:, r.JOINED] = count * (now + 0.5)
        total, received = self.ring.put(each, spread, self._middle)
        joined = spread * total
        self.sums[r.IN_BATCH] += joined
        self.sums[r.PROMPTS] += spread * received
        self.sums[r.CLOCKS] += joined * self._middle
        self._joined += joined
        self.counters[RECEIVED] += spread * received
        values = np.array((met, part[:, SPENT] + count * delay, count))
        self._tally.spread(part[:, BORN] / count, TTFT_MET, values)

    # ---- accounts ------------------------------------------------------------------------------

    def _tally_ended(self, now: int, rows: Floats, began: Floats, moved: Floats) -> None:
        some = rows.shape[1]
        flat = rows.reshape(-1, r.COLUMNS)
        there = np.flatnonzero(flat[:, r.IN_BATCH] > 0)
        if not len(there):
            return
        engine = there // some
        batch, _, clocks, tokens, joined, came, hopes, _ = flat[there].T
        ends = now + ((clocks + tokens) / batch - began[engine]) / moved[engine]
        between = np.maximum(ends * batch - joined, 0.0) / tokens
        values = np.empty((5, len(there)))
        values[0] = batch
        if self._slo.tbt is None:
            values[1], values[2] = batch, hopes
        else:
            held = between <= self._slo.tbt * _ALMOST
            values[1], values[2] = batch * held, hopes * held
        values[3] = batch * between
        values[4] = tokens
        self._tally.spread(came / batch, FINISHED, values)

    def _tally_cut(self, rows: Floats, clock: float) -> None:
        batch, came, tokens = self._running(rows, clock)
        self._tally.spread(came, FAILED, batch[None])
        self._tally.spread(came, OUTPUT_TOKENS, tokens[None])

    def running(self) -> tuple[Floats, Floats, Floats]:
        """Return requests, their time of arrival and their tokens so far, of all who run."""
        clocks = np.broadcast_to(self._clocks[:, None], self.ring.buckets.shape[:2])
        return self._running(self.ring.buckets.reshape(-1, r.COLUMNS), clocks.ravel())

    def _running(self, rows: Floats, clocks: Floats | float) -> tuple[Floats, Floats, Floats]:
        there = rows[:, r.IN_BATCH] > 0
        rows = rows[there]
        clocks = clocks[there] if isinstance(clocks, np.ndarray) else clocks
        batch = rows[:, r.IN_BATCH]
        tokens = np.clip(batch * clocks - rows[:, r.CLOCKS], 0.0, rows[:, r.TOKENS])
        return batch, rows[:, r.CAME] / batch, tokens

    def _refuse(self, cohort: Floats, share: float) -> None:
        """Fail the classes that are longer than any open engine's KV; they are 0 then."""
        if not self.limit:
            return
        long = cohort[:, INPUT] + cohort[:, OUTPUT] > cohort[:, COUNT] * (self.limit * _ALMOST)
        if long.any():
            gone = cohort[long]
            self._tally.spread(gone[:, BORN] / gone[:, COUNT], FAILED, gone[None, :, COUNT] * share)
            cohort[long] = 0.0
