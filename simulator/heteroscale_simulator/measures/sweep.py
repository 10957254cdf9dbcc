"""Every split of a number of instances into prefill and decode, and how much each one holds.

The paper's Figure 4: the best split is an interior one, and another for another service. For each
split the largest steady load under which QUANTILE of the requests are met is searched for on the
plant, from the formulas' own answer on (``capacity``): it is doubled or halved until one load holds
and one does not, and the gap between them is then halved until it is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import (
    QUANTILE,
    Journey,
    Offer,
    decode_capacity,
)
from heteroscale_simulator.measures.prefill_queue import PrefillQueue
from heteroscale_simulator.measures.steady import Line, MakePlant, Mix, Seen, Watch, look

NARROW = 0.01
"""The search ends when the load that holds is within so much of one that does not."""
SETTLE = 1.5
"""Times that a request takes at the TBT SLO, until decode's batches have filled."""


@dataclass(frozen=True)
class Bench:
    """What is split: instances of two roles, under one service's requests."""

    mix: Mix
    prefill: Offer
    decode: Offer
    journey: Journey
    make: MakePlant
    """Makes the plant; its speeds, SLO and cache are those of the offers and the journey."""


@dataclass(frozen=True, slots=True)
class Split:
    """The largest load that a split holds."""

    prefill: int
    decode: int
    rate: float
    """Requests/s; 0: not even a slight load is held."""
    expected: float
    """What the formulas say, requests/s."""
    bound_by: Role
    """The role that the formulas run out of first."""
    seen: Seen | None
    """At that load; None where ``rate`` is 0."""

    @property
    def prompt_rate(self) -> float:
        """Prompt tokens/s."""
        return self.seen.prompt_rate if self.seen else 0.0

    @property
    def output_rate(self) -> float:
        """Generated tokens/s."""
        return self.seen.output_rate if self.seen else 0.0


def sweep(
    bench: Bench,
    instances: int = 16,
    splits: Iterable[int] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> list[Split]:
    """Return what each split of ``instances`` holds, by rising number of prefill instances.

    Args:
        bench: what is split.
        instances: prefill and decode together.
        splits: numbers of prefill instances; None takes all, 1 to ``instances`` − 1.
        tell: told (done, all) after each split.

    Raises:
        ValueError: a split leaves a role without an instance.

    """
    asked = list(range(1, instances)) if splits is None else sorted(splits)
    for prefill in asked:
        if not 0 < prefill < instances:
            raise ValueError(f"{prefill} of {instances} for prefill leaves a role without any")
    found: list[Split] = []
    for done, prefill in enumerate(asked, 1):
        found.append(largest(bench, prefill, instances - prefill))
        if tell:
            tell(done, len(asked))
    return found


def best(splits: Sequence[Split]) -> Split:
    """Return the split that holds most requests/s; the fewest prefill instances among equals."""
    return max(splits, key=lambda split: (split.rate, -split.prefill))


def expected(bench: Bench, prefill: int, decode: int) -> tuple[float, Role]:
    """Return the requests/s that a split holds by the formulas, and the role that bounds it."""
    minutes = bench.mix.minutes(1.0)
    slo = bench.journey.slo
    room = decode_capacity(bench.decode.speed, minutes.context, slo.tbt)
    by_decode = decode * float(room.rate[0]) / float(minutes.output_rate[0])
    queue = PrefillQueue(minutes, bench.prefill.speed, bench.journey, room.step)
    by_prefill = float(queue.held_share(prefill, float(queue.most_share(prefill)[0]))[0])
    if by_prefill < by_decode:
        return by_prefill, Role.PREFILL
    return by_decode, Role.DECODE


def largest(bench: Bench, prefill: int, decode: int) -> Split:
    """Return the largest steady load that the plant holds with these instances."""
    hoped, bound_by = expected(bench, prefill, decode)
    lines = [
        Line(Role.PREFILL, bench.prefill.gpu_type, bench.prefill.gpus, prefill),
        Line(Role.DECODE, bench.decode.gpu_type, bench.decode.gpus, decode),
    ]
    how = Watch(settle=_settle(bench))
    low, high, seen = 0.0, np.inf, None
    rate = hoped or 1.0
    while high - low > NARROW * low and rate > _least(hoped):
        now = look(bench.make, lines, bench.mix, rate, how)
        if now.attainment >= QUANTILE:
            low, seen = rate, now
        else:
            high = rate
        rate = (low + high) / 2 if high < np.inf else low * (1 + 4 * NARROW)
        if not low:
            rate = high * (1 - 4 * NARROW) if high > hoped / 2 else high / 2
    return Split(prefill, decode, low, hoped, bound_by, seen)


def _least(hoped: float) -> float:
    return (hoped or 1.0) / 1000


def _settle(bench: Bench) -> int:
    minutes = bench.mix.minutes(1.0)
    slo = bench.journey.slo
    step = float(decode_capacity(bench.decode.speed, minutes.context, slo.tbt).step[0])
    return 30 + ceil(SETTLE * float(bench.mix.output.max()) * step)
