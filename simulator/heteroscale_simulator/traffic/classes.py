"""Classes of alike requests: where the edges lie, and sums by second and class.

Prompts are cut at quantiles that leave the tail apart (a prefill's time grows faster than its
length), outputs at their median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.rows import Rows

Cuts = tuple[tuple[float, ...], tuple[float, ...]]

CUTS: Mapping[int, Cuts] = {
    1: ((), ()),
    2: ((0.9,), ()),
    4: ((0.9,), (0.5,)),
    6: ((0.5, 0.9), (0.5,)),
    8: ((0.5, 0.9, 0.99), (0.5,)),
    16: ((0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999), (0.5,)),
}
"""By the largest number of classes: quantiles of the prompt's and of the output's length."""


@dataclass(frozen=True)
class Edges:
    """Lengths at which classes part; a length on an edge belongs below it."""

    inputs: Floats
    outputs: Floats

    @property
    def classes(self) -> int:
        """Number of classes."""
        return (len(self.inputs) + 1) * (len(self.outputs) + 1)

    @classmethod
    def of(cls, rows: Rows, classes: int) -> Edges:
        """Return edges from a sample of requests; equal edges are one.

        Raises:
            ValueError: fewer than one class.

        """
        if classes < 1:
            raise ValueError(f"classes is {classes}; at least 1 is needed")
        inputs, outputs = CUTS[max(size for size in CUTS if size <= classes)]
        return cls(_quantiles(rows.input_tokens, inputs), _quantiles(rows.output_tokens, outputs))

    def class_of(self, rows: Rows) -> NDArray[np.int64]:
        """Return each request's class."""
        columns = len(self.outputs) + 1
        row = np.searchsorted(self.inputs, rows.input_tokens, side="left")
        return row * columns + np.searchsorted(self.outputs, rows.output_tokens, side="left")


def _quantiles(lengths: Floats, cuts: tuple[float, ...]) -> Floats:
    if not cuts:
        return np.empty(0)
    edges: Floats = np.unique(np.quantile(lengths, cuts, method="lower"))
    return edges


class Sums:
    """Sums over requests by second and class, growing with the recording.

    With ``squares`` also Σ (length − centre)², whose centre is near the class's mean, so that a
    variance does not drown in rounding.
    """

    def __init__(self, edges: Edges, sample: Rows, *, squares: bool) -> None:
        self.edges = edges
        self.seconds = 0
        self.squares = squares
        shape = (3600, edges.classes)
        self._columns = [np.zeros(shape) for _ in range(5 if squares else 3)]
        self.lowest = np.full((2, edges.classes), np.inf)
        self.highest = np.zeros((2, edges.classes))
        """Shortest and longest length by (prompt or output, class)."""
        kind = edges.class_of(sample)
        size = np.maximum(1, np.bincount(kind, minlength=edges.classes))
        self.centres = np.array(
            [
                np.rint(np.bincount(kind, lengths, edges.classes) / size)
                for lengths in (sample.input_tokens, sample.output_tokens)
            ]
        )

    def add(self, rows: Rows) -> None:
        """Count requests; they may come in any order."""
        if not len(rows):
            return
        second = rows.at.astype(np.int64)
        kind = self.edges.class_of(rows)
        first, last = int(second.min()), int(second.max())
        self._grow(last + 1)
        cell = (second - first) * self.edges.classes + kind
        lengths = (rows.input_tokens, rows.output_tokens)
        weights: list[Floats | None] = [None, *lengths]
        if self.squares:
            both = zip(lengths, self.centres, strict=True)
            weights += [(length - centre[kind]) ** 2 for length, centre in both]
        for column, weight in zip(self._columns, weights, strict=True):
            size = (last + 1 - first) * self.edges.classes
            sums = np.bincount(cell, weight, size)
            column[first : last + 1] += sums.reshape(-1, self.edges.classes)
        for which, length in enumerate(lengths):
            np.minimum.at(self.lowest[which], kind, length)
            np.maximum.at(self.highest[which], kind, length)

    def cover(self, rows: Rows) -> None:
        """Reach to the last of these requests, whether they are counted or not."""
        if len(rows):
            self._grow(int(rows.at.max()) + 1)

    def column(self, index: int) -> Floats:
        """Return the sums: requests, prompt and output tokens, then the squares of both."""
        return self._columns[index][: self.seconds]

    def _grow(self, seconds: int) -> None:
        self.seconds = max(self.seconds, seconds)
        have = len(self._columns[0])
        if seconds > have:
            # Zeroed pages cost no memory until they are written.
            larger = [np.zeros((max(seconds, 2 * have), self.edges.classes)) for _ in self._columns]
            for column, old in zip(larger, self._columns, strict=True):
                column[:have] = old
            self._columns = larger
