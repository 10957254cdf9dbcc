"""Recordings of rates, not of requests; they become traffic once mean lengths are stated.

- ``minute,total_tokens_per_s`` (BurstGPT by the minute): prompt and output tokens/s together, level
  within a minute; a minute that is missing is silent
- ``hour,load_pct_of_peak``: percent of a peak that must be stated, straight between its points
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heteroscale_simulator.traffic.demand import Demand
from heteroscale_simulator.traffic.formats import header_of
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.traffic.opening import Opening
from heteroscale_simulator.traffic.rows import TraceError
from heteroscale_simulator.traffic.stream import MAX_SECONDS

TOKENS = ("minute", "total_tokens_per_s")
PERCENT = ("hour", "load_pct_of_peak")


@dataclass(frozen=True)
class Curve:
    """Points on a curve of load."""

    kind: tuple[str, str]
    """``TOKENS`` or ``PERCENT``."""
    at: Floats
    """Minutes or hours, rising."""
    load: Floats
    """Tokens/s, or percent."""

    def demand(self, name: str, values: Mapping[str, float]) -> Demand:
        """Return requests by the second.

        Args:
            name: the file's, for errors
            values: ``input`` and ``output``, mean tokens; ``peak``, requests/s, for a curve in
                percent; ``spread`` of the lognormal lengths

        Raises:
            TraceError: a value that is needed is missing.

        """
        needed = ["input", "output", *(["peak"] if self.kind == PERCENT else [])]
        missing = [key for key in needed if key not in values]
        if missing:
            example = "&".join(f"{key}={_EXAMPLE[key]}" for key in needed)
            raise TraceError(
                f"{name}: rates, no requests: {', '.join(missing)} must be stated, "
                f"as in '{Path(name).name}?{example}'"
            )
        if self.kind == PERCENT:
            second = np.arange(max(1, round((self.at[-1] - self.at[0]) * 3600)), dtype=np.float64)
            share = np.interp(second / 3600 + self.at[0], self.at, self.load) / 100
            rate = share * values["peak"]
        else:
            minute = (self.at - self.at[0]).astype(np.int64)
            level = np.zeros(int(minute[-1]) + 1)
            level[minute] = self.load
            rate = np.repeat(level, 60) / (values["input"] + values["output"])
        same = np.ones_like(rate)
        spread = values.get("spread", 1.0)
        return Demand(rate, same * values["input"], same * values["output"], spread)


_SECONDS = {"minute": 60, "hour": 3600}
_EXAMPLE = {"input": "1000", "output": "200", "peak": "100"}


def curve_of(file: Opening) -> Curve | None:
    """Return a file's curve; None, and nothing read, if its first line shows none.

    Raises:
        TraceError: a line makes no sense.

    """
    name = file.name
    columns = header_of(file.text)
    kind = next((kind for kind in (TOKENS, PERCENT) if set(kind) <= set(columns)), None)
    if kind is None:
        return None
    points = [
        point for line, block in file.blocks for point in _points(block, line, columns, kind, name)
    ]
    if len(points) < 2:  # noqa: PLR2004 - two ends
        raise TraceError(f"{name}: a curve needs at least two points; found {len(points)}")
    at, load = np.array(points).T
    if np.any(np.diff(at) <= 0):  # from one block to the next; within one, the line is named
        raise TraceError(f"{name}: {kind[0]} must rise from line to line")
    return Curve(kind, at, load)


def _points(
    block: bytes, line: int, columns: list[str], kind: tuple[str, str], name: str
) -> Iterator[tuple[float, float]]:
    reader = csv.DictReader(io.StringIO(block.decode("utf-8", "replace")), columns)
    last = -math.inf
    for row in reader:
        where = f"{name}:{line - 1 + reader.line_num}"
        at, load = (_number(row.get(field), field, where) for field in kind)
        if at <= last:
            raise TraceError(f"{where}: {kind[0]} is {at:g} after {last:g}: it must rise")
        if at * _SECONDS[kind[0]] > MAX_SECONDS:
            raise TraceError(f"{where}: {kind[0]} is {at:g}: more than 60 days; cut the file")
        if kind == TOKENS and at != int(at):
            raise TraceError(f"{where}: minute is {at:g}: a whole number is needed")
        yield at, load
        last = at


def _number(text: str | None, field: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise TraceError(f"{where}: {field} is {text!r}: not a number") from None
    if not (0 <= value < math.inf):
        raise TraceError(f"{where}: {field} is {value:g}: a finite number of 0 or more is needed")
    return value
