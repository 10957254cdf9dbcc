"""The requests a pressure test sends: lengths from a recording or stated, arrivals at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.source import GENERATED, load_source
from heteroscale_simulator.traffic.traces import Arrival, TraceError, read_trace

SAMPLE = 20_000
"""Requests of a recording whose lengths are used, evenly spread over it."""


@dataclass(frozen=True)
class Course:
    """When requests of which lengths came. Arrays of one length, at least one."""

    at: Floats
    """Seconds."""
    prompt: Floats
    """Mean prompt tokens of the requests of a row, ≥ 1, as is output's."""
    output: Floats
    weight: Floats
    """Requests of the row; 1 in a recording."""

    @property
    def requests(self) -> float:
        """All of them."""
        return float(self.weight.sum())


@dataclass(frozen=True)
class Workload:
    """Pairs of (prompt tokens, output tokens), each as likely as any other."""

    lengths: Sequence[tuple[int, int]]
    name: str
    course: Course | None = None
    """How they came; None where lengths were only stated."""

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


def recorded(source: str, seed: int = 0) -> Workload:
    """Return the requests of a recording, or of a generator (``gen:…``).

    Raises:
        TraceError: as ``read_trace`` and ``load_source`` do, and when there is no request.

    """
    if source.startswith(GENERATED):
        return _generated(source, seed)
    path = Path(source)
    rows = read_trace(path)
    if not rows:
        raise TraceError(f"{path}: no request in it")
    step = max(1, len(rows) // SAMPLE)
    at, prompt, output = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    lengths = [(row.input_tokens, row.output_tokens) for row in rows[::step]]
    return Workload(lengths, path.name, Course(at, prompt, output, np.ones(len(at))))


def _generated(source: str, seed: int) -> Workload:
    load = load_source(source, seed=seed)
    at, group = np.nonzero(load.requests)
    if not len(at):
        raise TraceError(f"{source}: no request in it")
    weight = load.requests[at, group]
    prompt, output = load.input_tokens[at, group] / weight, load.output_tokens[at, group] / weight
    lengths = drawn(prompt, output, weight, seed)
    return Workload(lengths, source, Course(at.astype(np.float64), prompt, output, weight))


def drawn(prompt: Floats, output: Floats, weight: Floats, seed: int) -> list[tuple[int, int]]:
    """Return lengths of requests drawn from rows, each as likely as its weight says."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(weight), SAMPLE, p=weight / weight.sum())
    return [
        (max(1, round(p)), max(1, round(o)))
        for p, o in zip(prompt[rows].tolist(), output[rows].tolist(), strict=True)
    ]


def stated(prompt: int, output: int, spread: float, seed: int) -> Workload:
    """Return lognormal lengths of these means; ``spread`` is the σ of their logarithms, 0 is alike."""
    name = f"{prompt} in, {output} out, spread {spread:g}"
    if not spread:
        return Workload([(prompt, output)], name)
    rng = random.Random(seed)  # noqa: S311 - a repeatable draw, no secret

    def drawn(mean: int) -> int:
        return max(1, round(mean * rng.lognormvariate(-spread * spread / 2, spread)))

    return Workload([(drawn(prompt), drawn(output)) for _ in range(SAMPLE)], name)
