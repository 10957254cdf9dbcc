"""A recording as a load: read once, piece by piece, and summed by second and class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.classes import Edges, Sums
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.traffic.opening import Opening, Progress, head, opened
from heteroscale_simulator.traffic.rows import Rows, TraceError
from heteroscale_simulator.traffic.scaling import multiplied, thinned
from heteroscale_simulator.traffic.stream import Notices, requests

SAMPLE = 200_000
"""Rows at the start from which the classes' edges are taken."""
SEED = 101
"""Added to the run's seed, so that no two rooms draw the same."""


def load_trace(
    path: Path,
    rate_scale: float = 1.0,
    seed: int = 0,
    classes: int = 8,
    progress: Progress | None = None,
) -> Load:
    """Return a recording as arrivals by the second, ``rate_scale`` requests for each recorded one.

    At 1 every request stays where it is; below, some are left out; above, see ``scaling``.

    Args:
        path: a file in any format of ``formats``, plain or gzip
        rate_scale: requests that a row stands for, > 0
        seed: of what is drawn
        classes: at most so many classes of alike requests
        progress: is told the share read, 0 to 1

    Raises:
        TraceError: the file cannot be read, holds no requests, or makes no sense.
        ValueError: ``rate_scale`` or ``classes`` is out of range.

    """
    with opened(path, progress) as file:
        return load_opened(head(file, str(path)), rate_scale, seed, classes)


def load_opened(file: Opening, rate_scale: float, seed: int, classes: int) -> Load:
    """Return the rest of an opened recording as a load; see ``load_trace``."""
    notices = Notices()
    load = load_rows(requests(file, notices), rate_scale, seed, classes)
    if load is None:
        raise TraceError(f"{file.name}: no requests in it, only a first line")
    return Load(load.requests, load.input_tokens, load.output_tokens, notices.sentences())


def load_rows(
    pieces: Iterator[Rows], rate_scale: float = 1.0, seed: int = 0, classes: int = 8
) -> Load | None:
    """Return rows in order of time as arrivals by the second; None if there are none.

    Raises:
        ValueError: ``rate_scale`` or ``classes`` is out of range.

    """
    if not (0 < rate_scale < math.inf):
        raise ValueError(f"rate scale is {rate_scale:g}; a finite number above 0 is needed")
    rng = np.random.default_rng(seed + SEED)
    sums = _summed(pieces, rate_scale, classes, rng)
    if sums is None:
        return None
    if rate_scale > 1:
        return _load(multiplied(sums, rate_scale, rng))
    return _load([sums.column(index) for index in range(3)])


def _summed(
    pieces: Iterator[Rows], rate_scale: float, classes: int, rng: np.random.Generator
) -> Sums | None:
    first, size = [], 0
    for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size >= SAMPLE:
            break
    if not size:
        return None
    sample = Rows.joined(first).take(slice(0, SAMPLE))
    sums = Sums(Edges.of(sample, classes), sample, squares=rate_scale > 1)
    for piece in chain(first, pieces):
        sums.cover(piece)
        sums.add(thinned(piece, rate_scale, rng) if rate_scale < 1 else piece)
    return sums


def _load(columns: list[Floats]) -> Load:
    used = np.flatnonzero(columns[0].sum(axis=0))
    if not len(used):
        used = np.array([0])
    kept = [np.ascontiguousarray(column[:, used]) for column in columns]
    return Load(kept[0], kept[1], kept[2])
