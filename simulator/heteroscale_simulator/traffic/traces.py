"""Recorded arrivals one by one, for those who send real requests; ``recording`` has them by second."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from heteroscale_simulator.traffic.opening import head, opened
from heteroscale_simulator.traffic.rows import Rows, TraceError
from heteroscale_simulator.traffic.stream import Notices, read

__all__ = ["Arrival", "Scaling", "TraceError", "read_trace", "scale"]


class Arrival(NamedTuple):
    """One request: when it leaves, in seconds from the start, and how long it is."""

    at: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a recording is played."""

    rate: float = 1.0
    """Requests for each recorded one; below 1 a seeded choice is left out."""
    time: float = 1.0
    """The recording runs this many times faster; the rate rises with it."""
    start: float = 0.0
    """Seconds of the recording to skip, before time is scaled."""
    duration: float | None = None
    """Seconds to play, after time was scaled."""
    jitter: float = 0.0
    """Each request is late by up to this many (scaled) seconds: for recordings in coarse steps."""
    max_input: int | None = None
    max_output: int | None = None


def read_trace(path: Path) -> list[Arrival]:
    """Return the arrivals of a recording, sorted, the first at its own time (often 0).

    Moments (Azure's column) are counted from the earliest. The whole recording is held in memory.

    Raises:
        TraceError: no such file, an unknown format, or a line that makes no sense.

    """
    with opened(path) as file:
        form, pieces = read(head(file, str(path)), Notices())
        rows = Rows.joined(list(pieces))
    if not len(rows):
        return []
    at = rows.at - rows.at.min() if form.dated else rows.at
    columns = (at.tolist(), rows.input_tokens.tolist(), rows.output_tokens.tolist())
    arrivals = [Arrival(t, int(i), int(o)) for t, i, o in zip(*columns, strict=True)]
    arrivals.sort(key=lambda arrival: arrival.at)
    return arrivals


def scale(arrivals: Iterable[Arrival], how: Scaling, seed: int = 0) -> list[Arrival]:
    """Return the arrivals as ``how`` plays them; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
    rows = [row for row in arrivals if row.at >= how.start]
    result: list[Arrival] = []
    for index, row in enumerate(rows):
        at = (row.at - how.start) / how.time
        if how.duration is not None and at >= how.duration:
            break
        gap = (rows[index + 1].at - row.at) / how.time if index + 1 < len(rows) else 0.0
        copies = int(how.rate) + (rng.random() < how.rate - int(how.rate))
        for copy in range(copies):
            late = rng.uniform(0, how.jitter) + (rng.uniform(0, gap) if copy else 0.0)
            result.append(
                Arrival(
                    at + late,
                    min(row.input_tokens, how.max_input or row.input_tokens),
                    min(row.output_tokens, how.max_output or row.output_tokens),
                )
            )
    result.sort(key=lambda arrival: arrival.at)
    return result
