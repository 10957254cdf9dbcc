"""Reads recorded arrivals in three formats, plain or gzipped, told apart by their first line.

- ``t_s,input_tokens,output_tokens`` (CSV; other columns are ignored)
- Azure's ``TIMESTAMP,ContextTokens,GeneratedTokens`` (CSV; date and time, up to 7 decimals)
- Mooncake's JSON lines with ``timestamp`` in milliseconds, ``input_length``, ``output_length``
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO


class Arrival(NamedTuple):
    """One request: when it leaves, in seconds from the start, and how long it is."""

    at: float
    input_tokens: int
    output_tokens: int


class TraceError(ValueError):
    """A trace cannot be read; the message has file and line."""


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

    Raises:
        TraceError: no such file, an unknown format, or a line that makes no sense.

    """
    try:
        with _open(path) as file:
            first = file.readline()
            if not first.strip():
                raise TraceError(f"{path}: empty")
            parse = _parser(first, path)
            arrivals = list(_parsed(parse(first, file), path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: {error}") from error
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


Rows = Iterator[tuple[int, float, int, int]]


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), "utf-8")
    return path.open(encoding="utf-8", newline="")


def _parser(first: str, path: Path) -> Callable[[str, TextIO], Rows]:
    if first.lstrip().startswith("{"):
        return _mooncake
    columns = {column.strip().strip('"') for column in first.split(",")}
    if {"t_s", "input_tokens", "output_tokens"} <= columns:
        return _plain
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= columns:
        return _azure
    known = "t_s,input_tokens,output_tokens; Azure's CSV; Mooncake's JSON lines"
    raise TraceError(f"{path}:1: unknown format (known: {known})")


def _parsed(rows: Rows, path: Path) -> Iterator[Arrival]:
    line = 1
    try:
        for line, at, prompt, output in rows:  # noqa: B007 - the error below needs the last line
            yield _arrival(at, prompt, output)
    except (ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path}: after line {line}: {error!s}") from error


def _arrival(at: float, prompt: int, output: int) -> Arrival:
    if not (0 <= at < math.inf and prompt >= 0 and output >= 0):
        raise ValueError("a time or a length is negative or not finite")
    return Arrival(at, max(1, prompt), max(1, output))


def _plain(first: str, file: TextIO) -> Rows:
    reader = csv.DictReader(chain([first], file))
    for row in reader:
        yield (
            reader.line_num,
            float(row["t_s"]),
            _whole(row["input_tokens"]),
            _whole(row["output_tokens"]),
        )


def _azure(first: str, file: TextIO) -> Rows:
    reader = csv.DictReader(chain([first], file))
    began: float | None = None
    for row in reader:
        at = _seconds(row["TIMESTAMP"])
        began = at if began is None else began
        yield (
            reader.line_num,
            at - began,
            _whole(row["ContextTokens"]),
            _whole(row["GeneratedTokens"]),
        )


def _mooncake(first: str, file: TextIO) -> Rows:
    for number, line in enumerate(chain([first], file), 1):
        if line.strip():
            row = json.loads(line)
            at = float(row["timestamp"]) / 1000
            yield number, at, int(row["input_length"]), int(row["output_length"])


def _seconds(stamp: str) -> float:
    whole, _, decimals = stamp.partition(".")
    decimals = decimals.split("+")[0].rstrip("Z")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return moment.timestamp() + (float(f"0.{decimals}") if decimals else 0.0)


def _whole(text: str) -> int:
    return round(float(text))
