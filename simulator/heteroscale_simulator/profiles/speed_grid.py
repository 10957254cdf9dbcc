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
        self._lengths = _union([p.prefill.lengths for p in profiles])
        self._batches = _union([p.decode.batches for p in profiles])
        self._contexts = _union([p.decode.contexts for p in profiles])
        self._prefill = np.array(
            [
                [linear(p.prefill.lengths, p.prefill.ms, n) / 1000 for n in self._lengths]
                for p in profiles
            ]
        )
        self._profiles = tuple(profiles)
        edges = [(p.measured if p.strict else None) for p in profiles]
        self._strict = any(edges)
        self._longest_prompt = np.array([e.prompt if e else np.inf for e in edges])
        self._longest_context = np.array([e.context if e else np.inf for e in edges])
        # Flat, so that a corner is one index: (type, batch, context).
        self._step = np.array(
            [
                bilinear(d.batches, d.contexts, d.step_ms, batch, context) / 1000
                for d in (p.decode for p in profiles)
                for batch in self._batches
                for context in self._contexts
            ]
        )

    def prefill_seconds(self, types: Ints, tokens: Floats) -> Floats:
        """Return the seconds one prefill of ``tokens`` prompt tokens takes; 0 where there are none.

        ``types`` and ``tokens`` have one shape (n,), and so has the answer.

        Raises:
            RangeError: a strict profile was not measured so far.

        """
        if self._strict:
            for i in np.flatnonzero(tokens > self._longest_prompt[types]):
                self._profiles[types[i]].require(prompt=float(tokens[i]))
        low, fraction = _bracket(self._lengths, tokens)
        below = self._prefill[types, low]
        high = np.minimum(low + 1, len(self._lengths) - 1)
        seconds = below + fraction * (self._prefill[types, high] - below)
        return np.where(tokens > 0, seconds, 0.0)

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
        row, down = _bracket(self._batches, np.maximum(batch, 1.0))
        column, right = _bracket(self._contexts, context)
        wide = len(self._contexts)
        upper = (types * len(self._batches) + row) * wide + column
        lower = upper + wide * (row + 1 < len(self._batches))
        beside = column + 1 < wide
        at_upper, at_lower = self._step[upper], self._step[lower]
        at_upper = at_upper + right * (self._step[upper + beside] - at_upper)
        at_lower = at_lower + right * (self._step[lower + beside] - at_lower)
        seconds: Floats = at_upper + down * (at_lower - at_upper)
        return seconds


def _union(axes: Sequence[Sequence[float]]) -> Floats:
    return np.array(sorted({float(point) for axis in axes for point in axis}))


def _bracket(axis: Floats, at: Floats) -> tuple[Ints, Floats]:
    # As grid.bracket: nothing before the first point, and the last line goes on.
    if len(axis) == 1:
        return np.zeros(at.shape, dtype=np.int64), np.zeros(at.shape)
    low = np.clip(np.searchsorted(axis, at, side="right") - 1, 0, len(axis) - 2)
    fraction = np.maximum((at - axis[low]) / (axis[low + 1] - axis[low]), 0.0)
    return low, fraction
