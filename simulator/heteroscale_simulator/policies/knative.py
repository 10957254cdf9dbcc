"""Knative's pod autoscaler (KPA) on concurrency, one for each role.

Every 2 s: ⌈requests inside ÷ 70⌉ (100 a pod, of which it fills 70 %), averaged over 60 s, or over 6 s in
panic. It panics when the short average wants twice the ready pods or more, for 60 s after the last such
moment, and never goes down meanwhile. At once at most 1,000 times up, to half down.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor

from heteroscale.words import Role
from heteroscale_simulator.policies.grounds import ROLES, Grounds
from heteroscale_simulator.policies.port import Counts, Seen

PERIOD = 2.0
STABLE = 60.0
PANIC = 6.0
PANIC_FACTOR = 2.0
MAX_UP = 1000.0
MAX_DOWN = 2.0
TARGET = 100 * 0.7


class PodAutoscaler:
    """One KPA: it remembers a minute of concurrency, and whether it panics."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._panic_at: float | None = None
        self._most = 0

    def desired(self, now: float, ready: int, concurrency: float | None) -> int | None:
        """Return the count wanted; None: nothing was seen, so nothing changes."""
        if concurrency is not None:
            self._seen.append((now, concurrency))
        while self._seen and self._seen[0][0] <= now - STABLE:
            self._seen.popleft()
        short = self._mean(now - PANIC)
        if short is None:
            return None
        pods = max(1, ready)
        stable, panic = (ceil(mean / TARGET) for mean in (self._mean(now - STABLE) or 0.0, short))
        self._mood(now, panic / pods >= PANIC_FACTOR)
        low, high = floor(pods / MAX_DOWN), ceil(pods * MAX_UP)
        stable, panic = (min(max(count, low), high) for count in (stable, panic))
        if self._panic_at is None:
            return max(1, stable)
        self._most = max(self._most, stable, panic)
        return self._most

    def _mood(self, now: float, alarmed: bool) -> None:
        if alarmed:
            self._panic_at = now
        elif self._panic_at is not None and now > self._panic_at + STABLE:
            self._panic_at, self._most = None, 0

    def _mean(self, since: float) -> float | None:
        values = [value for at, value in self._seen if at > since]
        return sum(values) / len(values) if values else None


class Knative:
    """A KPA for each role."""

    name = "knative"
    interval = PERIOD

    def __init__(self, _grounds: Grounds) -> None:
        self._scalers = {role: PodAutoscaler() for role in ROLES}

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now."""
        counts = {}
        for role, scaler in self._scalers.items():
            wish = scaler.desired(seen.now, seen.ready[role], inside(seen, role))
            counts[role] = max(1, seen.wanted[role] if wish is None else wish)
        return counts


def inside(seen: Seen, role: Role) -> float | None:
    """Return the requests that run or wait; the mean of the pods that were heard stands for all."""
    running, waiting = seen.gauge("running", role), seen.gauge("waiting", role)
    if not running:
        return None
    heard = sum(running.values()) + sum(waiting.get(name, 0.0) for name in running)
    return heard / len(running) * max(1, seen.ready[role])
