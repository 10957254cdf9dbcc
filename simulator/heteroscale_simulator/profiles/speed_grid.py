"""Speeds of many engines at once: several GPU profiles stacked on common axes.

Each profile is a piecewise (bi)linear function; on the union of all axes it is still the same one, so
an array of instances of mixed types is looked up in one go, and gives what ``GpuProfile`` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heteroscale_simulator.profiles.grid import bilinear, linear
from heteroscale_simulator.profiles.model import GpuProfile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class SpeedGrid:
    """The speeds of ``profiles``; a type is named by its index in them.

    Attributes hold one value for each type; index them by type to get one for each instance.
    """

    kv_capacity: Floats
    """Tokens whose KV fits; shape (types,)."""
    max_batch: Floats
    """Most requests that decode together; shape (types,)."""
    max_prefill_tokens: Floats
    """Most prompt tokens prefilled together; shape (types,)."""

    def __init__(self, profiles: Sequence[GpuProfile]) -> None:
        if not profiles:
            raise ValueError("a speed grid needs one profile at least")
        self.kv_capacity = np.array([p.kv_capacity_tokens for p in profiles], dtype=np.float64)
        self.max_batch = np.array([p.max_batch for p in profiles], dtype=np.float64)
        self.max_prefill_tokens = np.array(
            [p.max_prefill_tokens for p in profiles], dtype=np.float64
        )
        self._lengths = _Axis([p.prefill.lengths for p in profiles])
        self._batches = _Axis([p.decode.batches for p in profiles])
        self._contexts = _Axis([p.decode.contexts for p in profiles])
        self._profiles = tuple(profiles)
        edges = [(p.measured if p.strict else None) for p in profiles]
        self._strict = any(edges)
        self._longest_prompt = np.array([e.prompt if e else np.inf for e in edges])
        self._longest_context = np.array([e.context if e else np.inf for e in edges])
        self._prefill = self._lines()
        self._step = self._planes()

    def prefill_seconds(self, types: Ints, tokens: Floats) -> Floats:
        """Return the seconds one prefill of ``tokens`` prompt tokens takes; 0 where there are none.

        ``types`` and ``tokens`` have one shape (n,), and so has the answer.

        Raises:
            RangeError: a strict profile was not measured so far.

        """
        if self._strict:
            for i in np.flatnonzero(tokens > self._longest_prompt[types]):
                self._profiles[types[i]].require(prompt=float(tokens[i]))
        low, fraction = self._lengths.bracket(tokens)
        cell = self._prefill.take(types * self._lengths.cells + low, axis=1)
        seconds: Floats = (cell[0] + fraction * cell[1]) * (tokens > 0)
        return seconds

    def step_seconds(self, types: Ints, batch: Floats, context: Floats) -> Floats:
        """Return the seconds of one decode step of ``batch`` requests of mean ``context`` tokens.

        All have one shape (n,), and so has the answer. A batch below 1 counts as 1: fluid models
        hold parts of a request, engines do not.

        Raises:
            RangeError: a strict profile was not measured so far.

        """
        if self._strict:
            for i in np.flatnonzero(context > self._longest_context[types]):
                self._profiles[types[i]].require(context=float(context[i]))
        row, down = self._batches.bracket(np.maximum(batch, 1.0))
        column, right = self._contexts.bracket(context)
        at = (types * self._batches.cells + row) * self._contexts.cells + column
        cell = self._step.take(at, axis=1)
        seconds: Floats = cell[0] + right * cell[1] + down * (cell[2] + right * cell[3])
        return seconds

    def _lines(self) -> Floats:
        # (value, rise) of every stretch of every type.
        of = [p.prefill for p in self._profiles]
        at = [[linear(p.lengths, p.ms, n) / 1000 for n in self._lengths.points] for p in of]
        value = np.array(at)
        rise = np.diff(value, axis=1)
        return np.array([value[:, :-1].ravel(), rise.ravel()])

    def _planes(self) -> Floats:
        # (value, rise to the right, rise downwards, twist) of every cell of every type.
        of = [p.decode for p in self._profiles]
        value = np.array(
            [
                [
                    [
                        bilinear(p.batches, p.contexts, p.step_ms, b, c) / 1000
                        for c in self._contexts.points
                    ]
                    for b in self._batches.points
                ]
                for p in of
            ]
        )
        right, down = np.diff(value, axis=2), np.diff(value, axis=1)
        parts = (value[:, :-1, :-1], right[:, :-1], down[:, :, :-1], np.diff(down, axis=2))
        return np.array([part.ravel() for part in parts])


class _Axis:
    """The union of several axes; a single point gets a second, so that there is a stretch."""

    def __init__(self, axes: Sequence[Sequence[float]]) -> None:
        points = sorted({float(point) for axis in axes for point in axis})
        self.points = points if len(points) > 1 else [points[0], points[0] + 1]
        self.cells = len(self.points) - 1
        self._starts = np.array(self.points[:-1])
        self._inner = self._starts[1:]
        self._widths = np.diff(self.points)

    def bracket(self, at: Floats) -> tuple[Ints, Floats]:
        """Return as ``grid.bracket``: nothing before the first point, and the last line goes on."""
        low = self._inner.searchsorted(at, side="right")
        fraction = (at - self._starts.take(low)) / self._widths.take(low)
        return low, np.maximum(fraction, 0.0)
