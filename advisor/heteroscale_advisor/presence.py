"""When an instance was there, by its own series and by whether it was scraped at all (`up`). Pure.

Who tells nothing for a while may have been busy, hung or gone. A hole is unknown, because what was done
in it is missing from every sum, but for one kind: nobody scraped it though others were scraped, and it
came back with counters from the beginning. Then it was away, and did nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LINGERS = 300.0
"""Seconds for which one that has ended may still be scraped in vain."""


@dataclass(frozen=True)
class Scraped:
    """What tells of an instance beside its signals, by slot; NaN: nothing."""

    up: Floats
    """1: it was scraped; 0: in vain; NaN: nobody tried."""
    anyone: Bools
    """Whether anybody of its service was tried."""
    stood: Floats
    """What a counter of its stood at; 0 where it is known not to have begun."""


def there(known: Bools, scraped: Scraped, step: float) -> Bools:
    """Return the slots in which an instance was there; there and not ``known`` is unknown."""
    slots = np.flatnonzero(known)
    result = np.zeros(len(known), dtype=np.bool_)
    if not len(slots):
        return result
    first, last = int(slots[0]), int(slots[-1])
    result[first : last + 1] = True
    for begin, end in _holes(known, first, last):
        if _restarted(scraped.stood, begin, end):
            away = np.flatnonzero(np.isnan(scraped.up[begin:end]) & scraped.anyone[begin:end])
            if len(away):
                # What follows is its start: it is tried, and does not answer yet.
                result[begin + int(away[0]) : end] = False
    silent = 0
    while last + 1 + silent < len(known) and scraped.up[last + 1 + silent] == 0:
        silent += 1
    if silent * step > LINGERS:
        result[last + 1 : last + 1 + silent] = True
    return result


def _holes(known: Bools, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of unknown slots between two known ones, as (first, after the last)."""
    begin = None
    for slot in range(first, last + 1):
        if known[slot] and begin is not None:
            yield begin, slot
            begin = None
        elif not known[slot] and begin is None:
            begin = slot


def _restarted(stood: Floats, begin: int, end: int) -> bool:
    """Return whether a counter stands lower after a hole than before it."""
    before = stood[:begin][np.isfinite(stood[:begin])]
    after = stood[end:][np.isfinite(stood[end:])]
    return bool(len(before) and len(after) and after[0] < before[-1])
