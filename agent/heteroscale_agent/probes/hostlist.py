"""Slurm's hostlists, ``gpu[01-04,7],login1``: is a name in one, and how many are; never expanded."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PIECE = re.compile(r"\[([^\]]*)\]|([^\[\],]+)|(,)")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
MAX_BRACKETS = 4


def contains(hostlist: str, name: str) -> bool:
    """Return whether ``name`` is one of the hosts. Text that is no hostlist has none."""
    return any(_matches(parts, name) for parts in _hosts(hostlist))


def size(hostlist: str) -> int:
    """Return how many hosts the list names."""
    total = 0
    for parts in _hosts(hostlist):
        count = 1
        for text, bracket in parts:
            if bracket:
                count *= sum(last - first + 1 for first, last, _ in _ranges(text))
        total += count
    return total


def _hosts(hostlist: str) -> Iterator[list[tuple[str, bool]]]:
    """Yield each entry as literal texts and the insides of brackets."""
    parts: list[tuple[str, bool]] = []
    for match in _PIECE.finditer(hostlist):
        inside, literal, comma = match.groups()
        if comma:
            if parts:
                yield parts
            parts = []
        else:
            parts.append((literal, False) if inside is None else (inside, True))
    if parts:
        yield parts


def _ranges(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield first, last and the width that numbers are padded to."""
    for entry in text.split(","):
        match = _RANGE.fullmatch(entry.strip())
        if match is None:
            continue
        first, last = match.group(1), match.group(2) or match.group(1)
        if int(first) <= int(last):
            yield int(first), int(last), len(first)


def _matches(parts: list[tuple[str, bool]], name: str) -> bool:
    if sum(bracket for _, bracket in parts) > MAX_BRACKETS:
        return False
    pattern = "".join("([0-9]{1,9})" if bracket else re.escape(text) for text, bracket in parts)
    match = re.fullmatch(pattern, name)
    if match is None:
        return False
    inside = [text for text, bracket in parts if bracket]
    return all(map(_within, inside, match.groups()))


def _within(text: str, number: str) -> bool:
    return any(
        first <= int(number) <= last and number == str(int(number)).zfill(width)
        for first, last, width in _ranges(text)
    )
