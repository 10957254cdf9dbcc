"""Slurm's hostlists, ``gpu[01-04,7],login1``, written out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

_PIECE = re.compile(r"\[([^\]]*)\]|([^\[\],]+)|(,)")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MAX_HOSTS = 100_000


def expand(hostlist: str) -> tuple[str, ...]:
    """Return the names in order; text that is no hostlist has none, nor has ``(null)``.

    Raises:
        ValueError: it names more than 100,000 hosts.

    """
    if hostlist in ("", "(null)", "None"):
        return ()
    names = tuple(itertools.islice(_names(hostlist), MAX_HOSTS + 1))
    if len(names) > MAX_HOSTS:
        raise ValueError(f"a hostlist of more than {MAX_HOSTS} hosts")
    return names


def indices(text: str) -> tuple[int, ...]:
    """Return the numbers of ``0-3,7``; ``N/A`` has none."""
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            continue
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        found += range(first, min(last, first + 1_000) + 1)
    return tuple(found)


def _names(hostlist: str) -> Iterator[str]:
    parts: list[list[str]] = []
    for match in _PIECE.finditer(hostlist + ","):
        inside, literal, comma = match.groups()
        if comma:
            if parts:
                yield from map("".join, itertools.product(*parts))
            parts = []
        else:
            parts.append([literal] if inside is None else list(_numbers(inside)))


def _numbers(inside: str) -> Iterator[str]:
    for entry in inside.split(","):
        match = _RANGE.fullmatch(entry.strip())
        if match is None:
            continue
        first, last = match.group(1), match.group(2) or match.group(1)
        stop = min(int(last), int(first) + MAX_HOSTS)
        for number in range(int(first), stop + 1):
            yield str(number).zfill(len(first))
