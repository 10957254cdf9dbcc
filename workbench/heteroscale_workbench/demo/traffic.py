"""The demo's traffic: whose requests, and how fast they come.

Requests (sizes and the pattern of their arrivals) come from a generator or a trace; how fast they are
played is the script's. A trace is read in *operational time*: gaps between arrivals are kept in units
of their mean, and the script says how many such units pass in a second. So a trace's bursts stay
bursts, whatever its length or rate, while the story (rise, lull, second hump, fall) stays the demo's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle, pairwise

from heteroscale_simulator.traffic.traces import Arrival

MAX_PROMPT = 2000
MAX_OUTPUT = 240


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: ``gap`` since the one before in units of the mean gap, and its tokens."""

    gap: float
    prompt: int
    output: int


def generated(prompt: float, output: float, seed: int = 1) -> Iterator[Asked]:
    """Draw Poisson arrivals with sizes spread around the means; the same for a seed."""
    draw = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
    for _ in count():
        yield Asked(
            draw.expovariate(1.0),
            max(8, round(draw.gammavariate(4.0, prompt / 4.0))),
            max(4, round(draw.gammavariate(4.0, output / 4.0))),
        )


def replayed(rows: Sequence[Arrival], prompt: float, output: float) -> Iterator[Asked]:
    """Play the rows of a trace again and again.

    Sizes are scaled by one factor each, so that their means become ``prompt`` and ``output``: the
    simulated engines are that much slower than real ones. The largest are capped.

    Raises:
        ValueError: fewer than two rows, or all at one moment.

    """
    if len(rows) <= 1 or rows[-1][0] <= rows[0][0]:
        raise ValueError("a trace needs at least two requests at different times")
    mean_gap = (rows[-1][0] - rows[0][0]) / (len(rows) - 1)
    by_prompt = prompt / max(1.0, sum(row[1] for row in rows) / len(rows))
    by_output = output / max(1.0, sum(row[2] for row in rows) / len(rows))
    gaps = [mean_gap, *(b[0] - a[0] for a, b in pairwise(rows))]
    for gap, (_, in_tokens, out_tokens) in cycle(zip(gaps, rows, strict=True)):
        yield Asked(
            gap / mean_gap,
            min(MAX_PROMPT, max(1, round(in_tokens * by_prompt))),
            min(MAX_OUTPUT, max(1, round(out_tokens * by_output))),
        )


class Pacer:
    """Turns a level in output tokens per second into arrivals that are due."""

    def __init__(self, arrivals: Iterator[Asked], mean_output: float) -> None:
        self._arrivals = arrivals
        self._mean_output = mean_output
        self._next = next(arrivals)
        self._until = self._next.gap

    def advance(self, seconds: float, level: float) -> list[Asked]:
        """Return the arrivals of the next ``seconds`` at ``level`` output tokens per second."""
        self._until -= seconds * level / self._mean_output
        due: list[Asked] = []
        while self._until <= 0:
            due.append(self._next)
            self._next = next(self._arrivals)
            self._until += self._next.gap
        return due
