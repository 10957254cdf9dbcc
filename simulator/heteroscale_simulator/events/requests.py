"""Single requests, what became of each, and how a load by seconds becomes single requests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from heteroscale_simulator.traffic.load import Load


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it arrives, in seconds, and its lengths in tokens (both at least 1)."""

    at: float
    prompt: int
    output: int


@dataclass(slots=True)
class Answer:
    """What became of a request; times in seconds, NaN where it never came so far."""

    request: Request
    prefilled_at: float = math.nan
    admitted_at: float = math.nan
    """Into a decode batch."""
    first_token_at: float = math.nan
    finished_at: float = math.nan

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the first token; NaN if there was none."""
        return self.first_token_at - self.request.at

    @property
    def tbt(self) -> float:
        """Mean seconds between tokens; 0 for a single token, NaN if it did not finish."""
        if self.request.output == 1:
            return self.finished_at - self.first_token_at
        return (self.finished_at - self.first_token_at) / (self.request.output - 1)


def requests_of(load: Load, seed: int = 0) -> Iterator[Request]:
    """Yield single requests for ``load``, in order of arrival: uniform inside their second.

    A fraction of a request becomes one with that probability; its class's mean lengths are rounded.
    """
    rng = np.random.default_rng(seed)
    for second in range(load.seconds):
        arrivals: list[Request] = []
        for kind in np.flatnonzero(load.requests[second]):
            count = load.requests[second, kind]
            prompt = max(1, round(load.input_tokens[second, kind] / count))
            output = max(1, round(load.output_tokens[second, kind] / count))
            whole = int(count) + int(rng.random() < count - int(count))
            times = second + rng.random(whole)
            arrivals += [Request(float(at), prompt, output) for at in times]
        yield from sorted(arrivals, key=lambda request: request.at)
