"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2, its defaults), one for each role.

The metric is an external total, the role's offered tokens/s, held against a target for each pod.
Every 15 s: N stays if total ÷ (N × target) is within 0.9 to 1.1, else ⌈total ÷ target⌉ is recommended.
Up at once, to at most max(N + 4, 2 N); down to the highest recommendation of the last 300 s. A metric
that cannot be had changes nothing.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Protocol

from heteroscale.words import Role
from heteroscale_simulator.policies.grounds import ROLES, Grounds
from heteroscale_simulator.policies.port import Counts, Seen

PERIOD = 15.0
"""Seconds between decisions (--horizontal-pod-autoscaler-sync-period)."""
TOLERANCE = 0.1
"""Inclusive, both ways."""
DOWN_WINDOW = 300.0
"""Seconds of recommendations that a scale-down respects."""
UP_PODS = 4
UP_FACTOR = 2
RATE_WINDOW = 60.0
"""Seconds of the metric's rate: what Prometheus adapters are usually told, rate(…[1m])."""
_ROUNDING = 1e-9


class Metric(Protocol):
    """Where an HPA's total comes from; None: it cannot be had now."""

    def __call__(self, seen: Seen, role: Role) -> float | None:
        """Return tokens/s of the role."""


def offered(seen: Seen, role: Role) -> float | None:
    """Return the tokens/s offered to a role: arriving prompts; arriving or generated output."""
    return seen.offered(role, RATE_WINDOW)


class Autoscaler:
    """One HPA's memory: what it recommended, and how far it may go at once."""

    def __init__(self) -> None:
        self._recommended: deque[tuple[float, int]] = deque()

    def desired(self, now: float, current: int, recommended: int | None) -> int:
        """Return the count wanted, given the one asked for before; None: no metric, no change."""
        if not self._recommended:  # a fresh HPA remembers the size that it found
            self._recommended.append((now, current))
        if recommended is None:
            return current
        self._recommended.append((now, recommended))
        while self._recommended[0][0] <= now - DOWN_WINDOW:
            self._recommended.popleft()
        if recommended > current:
            return min(recommended, max(current + UP_PODS, current * UP_FACTOR))
        return max(1, min(current, max(count for _, count in self._recommended)))


def recommendation(current: int, total: float, target: float) -> int:
    """Return ⌈total ÷ target⌉, or ``current`` while that is within the tolerance."""
    ratio = total / (current * target)
    if abs(ratio - 1) <= TOLERANCE + _ROUNDING:
        return current
    return ceil(total / target - _ROUNDING)


class Hpa:
    """An HPA for each role on offered tokens/s, with head-room."""

    name = "hpa"
    interval = PERIOD

    def __init__(self, grounds: Grounds, metric: Metric = offered) -> None:
        self._targets = grounds.with_head_room
        self._metric = metric
        self._scalers = {role: Autoscaler() for role in ROLES}

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now."""
        counts = {}
        for role, scaler in self._scalers.items():
            current, total = max(1, seen.wanted[role]), self._metric(seen, role)
            wish = None if total is None else recommendation(current, total, self._targets[role])
            counts[role] = scaler.desired(seen.now, current, wish)
        return counts
