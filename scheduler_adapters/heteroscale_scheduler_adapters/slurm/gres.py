"""GPUs in Slurm's words for generic resources: ``gpu:h20:8(S:0-1)``, ``gpu:h20:2(IDX:0-1)``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from heteroscale_scheduler_adapters.slurm.hostlist import indices

# A comma inside brackets parts indices, not resources.
_ENTRY = re.compile(r"(?:gres[:/])?gpu(?::([A-Za-z_][\w.\-]*))?(?:[:=](\d+))?(?:\(([^)]*)\))?")
MAX_GPUS = 1024


@dataclass(frozen=True, slots=True)
class Gres:
    """Some GPUs of one type."""

    type: str
    """Empty: Slurm was told of none."""
    count: int
    indices: tuple[int, ...] = ()
    """Which of the node's; empty: not told."""


def parse(text: str) -> tuple[Gres, ...]:
    """Return the GPUs that a text names; other resources are passed over."""
    return tuple(_entries(text))


def total(text: str) -> int:
    """Return how many GPUs a text names."""
    return sum(one.count for one in parse(text))


def taken(text: str) -> tuple[int, ...]:
    """Return which GPUs of its node a text names, as far as it tells."""
    return tuple(index for one in parse(text) for index in one.indices)


def _entries(text: str) -> Iterator[Gres]:
    for part in re.split(r",(?![^(]*\))", text):
        match = _ENTRY.fullmatch(part.strip())
        if match is None:
            continue
        kind, count, note = match.groups()
        # Without a number it is one.
        many = min(int(count), MAX_GPUS) if count else 1
        told = indices(note.removeprefix("IDX:")) if note and note.startswith("IDX:") else ()
        yield Gres("" if kind in (None, "(null)") else kind, many, told)
