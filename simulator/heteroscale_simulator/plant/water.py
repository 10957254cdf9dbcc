"""Sharing out by least load: water that finds one level over vessels of different floors."""

from __future__ import annotations

import numpy as np

from heteroscale_simulator.traffic.load import Floats


def fill(held: Floats, size: Floats, room: Floats, amount: float) -> Floats:
    """Return what each takes of ``amount`` so that held ÷ size is as even as can be.

    Args:
        held: what each holds.
        size: what each holds when full, above 0.
        room: the most each takes; 0 for those that take nothing.
        amount: to be shared out; what is beyond Σ room stays outside.

    """
    if amount >= room.sum():
        return room
    able = (room > 0).astype(np.float64)
    level = (amount + float(held @ able)) / float(size @ able)
    for _ in range(12):
        gaps = level * size - held
        taken = np.minimum(np.maximum(gaps, 0.0), room)
        missing = amount - float(taken.sum())
        if abs(missing) <= 1e-9 * amount:
            return taken
        # Only who is neither above the level nor full follows it.
        moves = float(size @ ((gaps > 0) & (gaps < room)))
        if moves <= 0:
            break
        level += missing / moves
    return _bisected(held, size, room, amount)


def _bisected(held: Floats, size: Floats, room: Floats, amount: float) -> Floats:
    able = room > 0
    low, high = 0.0, float(((held + room)[able] / size[able]).max())
    for _ in range(60):
        level = (low + high) / 2
        taken = np.minimum(np.maximum(level * size - held, 0.0), room)
        low, high = (level, high) if taken.sum() < amount else (low, level)
    taken = np.minimum(np.maximum(high * size - held, 0.0), room)
    total = float(taken.sum())
    shared: Floats = taken * (amount / total) if total else taken
    return shared
