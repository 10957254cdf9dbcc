"""AIBrix' pod autoscaler (APA), one for each role, on offered tokens/s a pod.

Every 10 s, over 180 s: above 1.1 of the target ⌈N r⌉, at most 2 N; below 0.9 ⌈N r⌉, at least N/2; r is
the metric's mean over ready pods ÷ target, but N counts those that start too, so that a cold start
cascades. Scale-down takes the *lowest* recommendation of the last 300 s, as it is coded;
``aibrix-window`` takes the highest, as Kubernetes' HPA does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import ceil, floor

from heteroscale_simulator.policies.grounds import ROLES, Grounds
from heteroscale_simulator.policies.port import Counts, Seen

PERIOD = 10.0
WINDOW = 180.0
DOWN_WINDOW = 300.0
UP, DOWN = 1.1, 0.9
FACTOR = 2
Choose = Callable[[Iterable[int]], int]


class Apa:
    """One role's APA; ``choose`` picks among the recommendations of the window at a scale-down."""

    def __init__(self, target: float, choose: Choose) -> None:
        self._target, self._choose = target, choose
        self._recommended: deque[tuple[float, int]] = deque()

    def desired(self, now: float, current: int, mean: float | None) -> int:
        """Return the count wanted; ``mean`` is tokens/s a ready pod, None: unknown, no change."""
        if mean is None:
            return current
        self._recommended.append((now, recommendation(current, mean / self._target)))
        while self._recommended[0][0] <= now - DOWN_WINDOW:
            self._recommended.popleft()
        newest = self._recommended[-1][1]
        if newest >= current:
            return newest
        return max(1, min(current, self._choose(count for _, count in self._recommended)))


def recommendation(current: int, ratio: float) -> int:
    """Return what one look recommends."""
    wish = ceil(current * ratio - 1e-9)
    if ratio > UP:
        return min(wish, FACTOR * current)
    if ratio < DOWN:
        return max(wish, floor(current / FACTOR), 1)
    return current


class Aibrix:
    """An APA for each role."""

    interval = PERIOD

    def __init__(self, grounds: Grounds, name: str, choose: Choose) -> None:
        self.name = name
        given = grounds.with_head_room
        self._scalers = {role: Apa(given[role], choose) for role in ROLES}

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now."""
        counts = {}
        for role, scaler in self._scalers.items():
            total = seen.offered(role, WINDOW)
            mean = None if total is None else total / max(1, seen.ready[role])
            counts[role] = scaler.desired(seen.now, max(1, seen.wanted[role]), mean)
        return counts
