"""A recording as a load: read once, piece by piece, and summed by second and class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.classes import Edges, Sums
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.rows import Rows, TraceError
from heteroscale_simulator.traffic.stream import Notices, Progress, stream_trace

SAMPLE = 200_000
"""Rows at the start from which the classes' edges are taken."""


def load_trace(
    path: Path,
    rate_scale: float = 1.0,
    seed: int = 0,  # noqa: ARG001 - for what is drawn
    classes: int = 8,
    progress: Progress | None = None,
) -> Load:
    """Return a recording as arrivals by the second, ``rate_scale`` requests for each recorded one.

    At 1 every request stays where it is.

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
    if not (0 < rate_scale < math.inf):
        raise ValueError(f"rate scale is {rate_scale:g}; a finite number above 0 is needed")
    if rate_scale != 1:
        raise ValueError("rate scale: not yet")
    notices = Notices()
    sums = _summed(stream_trace(path, notices, progress), classes)
    if sums is None:
        raise TraceError(f"{path}: no requests in it, only a first line")
    return _trimmed(sums, notices)


def _summed(pieces: Iterator[Rows], classes: int) -> Sums | None:
    first, size = [], 0
    for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size >= SAMPLE:
            break
    if not first:
        return None
    sample = Rows.joined(first).take(slice(0, SAMPLE))
    sums = Sums(Edges.of(sample, classes), sample, squares=False)
    for piece in chain(first, pieces):
        sums.add(piece)
    return sums


def _trimmed(sums: Sums, notices: Notices) -> Load:
    used = sums.column(0).any(axis=0)
    columns = [np.ascontiguousarray(sums.column(index)[:, used]) for index in range(3)]
    return Load(columns[0], columns[1], columns[2], notices.sentences())
