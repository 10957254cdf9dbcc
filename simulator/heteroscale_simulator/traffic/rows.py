"""Rows of a recording as arrays, and what is refused in them: file, line, field, what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteroscale_simulator.traffic.load import Floats

MAX_TOKENS = 10_000_000
"""No prompt or answer is longer: ten times the longest context window on offer."""
COLUMNS = ("t_s", "input_tokens", "output_tokens")


class TraceError(ValueError):
    """A trace cannot be read; the message has file, line, field and what would be right."""


@dataclass(frozen=True)
class Rows:
    """Consecutive requests. Arrays of one length."""

    at: Floats
    """Seconds."""
    input_tokens: Floats
    """Whole, ≥ 1."""
    output_tokens: Floats
    """Whole, ≥ 1."""
    line: NDArray[np.int64]
    """Where each stands in its file; the first line is 1."""

    def __len__(self) -> int:
        return len(self.at)

    def take(self, index: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Return some of them."""
        return Rows(
            self.at[index], self.input_tokens[index], self.output_tokens[index], self.line[index]
        )

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Return all parts as one."""
        if len(parts) == 1:
            return parts[0]
        return Rows(
            np.concatenate([part.at for part in parts]),
            np.concatenate([part.input_tokens for part in parts]),
            np.concatenate([part.output_tokens for part in parts]),
            np.concatenate([part.line for part in parts]),
        )


def checked(rows: Rows, name: str, fields: Sequence[str]) -> tuple[Rows, int]:
    """Return the rows with whole lengths of at least 1, and how many lengths were zero.

    Args:
        rows: as read
        name: the file's, for errors
        fields: what the file calls the three columns

    Raises:
        TraceError: a value is not finite, negative, or longer than any request.

    """

    def refuse(bad: NDArray[np.bool_], values: Floats, field: str, why: str) -> None:
        if bad.any():
            index = int(np.argmax(bad))
            raise TraceError(f"{name}:{rows.line[index]}: {field} is {values[index]:g}: {why}")

    refuse(~np.isfinite(rows.at), rows.at, fields[0], "not a finite number of seconds")
    lengths = []
    zeros = 0
    for field, values in zip(fields[1:], (rows.input_tokens, rows.output_tokens), strict=True):
        refuse(~np.isfinite(values), values, field, "not a finite number of tokens")
        refuse(values < 0, values, field, "negative; a length is 0 or more")
        limit = f"more than {MAX_TOKENS:,} tokens, which no request has: are these bytes?"
        refuse(values > MAX_TOKENS, values, field, limit)
        whole = np.rint(values)
        short = whole < 1
        zeros += int(np.count_nonzero(short))
        lengths.append(np.where(short, 1.0, whole))
    return Rows(rows.at, lengths[0], lengths[1], rows.line), zeros
