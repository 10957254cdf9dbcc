"""The requests a pressure test sends: lengths from a recording or stated, arrivals at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heteroscale_simulator.traffic.traces import Arrival, read_trace

SAMPLE = 20_000
"""Requests of a recording whose lengths are used, evenly spread over it."""


@dataclass(frozen=True)
class Workload:
    """Pairs of (prompt tokens, output tokens), each as likely as any other."""

    lengths: Sequence[tuple[int, int]]
    name: str

    @property
    def mean_prompt(self) -> float:
        """Mean prompt tokens."""
        return sum(prompt for prompt, _ in self.lengths) / len(self.lengths)

    @property
    def mean_output(self) -> float:
        """Mean output tokens."""
        return sum(output for _, output in self.lengths) / len(self.lengths)

    def arrivals(self, rate: float, seconds: float, seed: int) -> list[Arrival]:
        """Return Poisson arrivals at ``rate`` requests/s; the same for the same seed."""
        rng = random.Random(seed)  # noqa: S311 - a repeatable draw, no secret
        at, found = rng.expovariate(rate), []
        while at < seconds:
            prompt, output = rng.choice(self.lengths)
            found.append(Arrival(at, prompt, output))
            at += rng.expovariate(rate)
        return found


def recorded(path: Path) -> Workload:
    """Return the lengths of a recording. Raises TraceError as ``read_trace`` does."""
    rows = read_trace(path)
    step = max(1, len(rows) // SAMPLE)
    return Workload([(row.input_tokens, row.output_tokens) for row in rows[::step]], path.name)


def stated(prompt: int, output: int, spread: float, seed: int) -> Workload:
    """Return lognormal lengths of these means; ``spread`` is the σ of their logarithms, 0 is alike."""
    name = f"{prompt} in, {output} out, spread {spread:g}"
    if not spread:
        return Workload([(prompt, output)], name)
    rng = random.Random(seed)  # noqa: S311 - a repeatable draw, no secret

    def drawn(mean: int) -> int:
        return max(1, round(mean * rng.lognormvariate(-spread * spread / 2, spread)))

    return Workload([(drawn(prompt), drawn(output)) for _ in range(SAMPLE)], name)
