"""How far one step goes. Both directions never fall as the need grows."""

from __future__ import annotations

import math

_SLACK = 1e-9


def step_out(present: int, needed: int, share: float) -> int:
    """Return the count after one scale-out: at most ``share`` of the present more, at least one."""
    return min(needed, present + max(1, math.floor(present * share + _SLACK)))


def step_in(present: int, needed: int, dampening: float) -> int:
    """Return the count after one scale-in: ``dampening`` of the surplus fewer, at least one."""
    surplus = present - needed
    if surplus <= 0:
        return present
    return present - max(1, math.floor(surplus * dampening + _SLACK))
