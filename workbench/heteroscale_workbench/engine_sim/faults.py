"""How an engine can misbehave on request, for tests of whatever watches it.

Faults of the process are chosen at the start; those of its endpoints can also be switched while it
runs (``POST /_fault``), but only where ``--allow-faults`` was given.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

HUGE_BYTES = 100 * 1024 * 1024
_VALUE = re.compile(rb"^([^#\s].*) (\S+)$", re.MULTILINE)


class ProcessFault(StrEnum):
    """How the process as a whole misbehaves."""

    EXIT_AT_ONCE = "exit-at-once"
    NEVER_READY = "never-ready"
    IGNORE_TERM = "ignore-term"


class MetricsFault(StrEnum):
    """How /metrics misbehaves."""

    HANG = "hang"
    HUGE = "huge"
    HTML = "html"
    NAN = "nan"
    NEGATIVE = "negative"
    ABSURD = "absurd"
    ERROR = "error"


FAULTS = tuple(
    [fault.value for fault in ProcessFault] + [f"metrics-{f.value}" for f in MetricsFault]
)


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    process: ProcessFault | None = None
    metrics: MetricsFault | None = None
    unhealthy: bool = False


def read_faults(names: list[str]) -> Faults:
    """Return the faults that the command line names."""
    result = Faults()
    for name in names:
        if name.startswith("metrics-"):
            result.metrics = MetricsFault(name.removeprefix("metrics-"))
        else:
            result.process = ProcessFault(name)
    return result


def garble(text: bytes, fault: MetricsFault | None) -> bytes:
    """Return metrics ``text`` as ``fault`` has it; unchanged without one."""
    if fault is MetricsFault.HTML:
        return b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>\n"
    if fault is MetricsFault.NAN:
        return _VALUE.sub(rb"\1 NaN", text)
    if fault is MetricsFault.NEGATIVE:
        return _VALUE.sub(rb"\1 -7.0", text)
    if fault is MetricsFault.ABSURD:
        return _VALUE.sub(rb"\1 1e+300", text)
    return text


async def huge() -> AsyncIterator[bytes]:
    """Yield 100 MB that look like metrics."""
    line = b'sim:garbage_total{filler="' + b"x" * 1000 + b'"} 1.0\n'
    block = line * 1024
    for _ in range(HUGE_BYTES // len(block) + 1):
        yield block
        await asyncio.sleep(0)
