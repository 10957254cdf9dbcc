"""Kubernetes' HPA on a metric of its pods, with its rules for pods whose metric is missing.

What a team gets that scales on GPU utilisation because it is there: one HPA for each role, 80 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from heteroscale_simulator.policies.grounds import ROLES, Grounds
from heteroscale_simulator.policies.hpa import PERIOD, TOLERANCE, Autoscaler
from heteroscale_simulator.policies.port import Counts, Seen

UTILISATION = 0.8
"""What Kubernetes takes where an HPA names no metric (of CPU)."""
_ROUNDING = 1e-9


def from_pods(values: Mapping[str, float], pods: int, current: int, target: float) -> int:
    """Return the count recommended by the metric's values of some of ``pods`` pods.

    A pod without a value counts as ``target`` where the others are below it, and as 0 where they are
    above: a missing metric dampens, and never turns, a decision. No value at all changes nothing.
    """
    if not values:
        return current
    total, known = sum(values.values()), len(values)
    ratio = total / (known * target)
    missing = max(0, pods - known)
    if not missing:
        return current if _near(ratio) else ceil(ratio * known - _ROUNDING)
    filled = total + (missing * target if ratio < 1 else 0)
    dampened = filled / ((known + missing) * target)
    if _near(dampened) or (ratio > 1) != (dampened > 1):
        return current
    count = ceil(dampened * (known + missing) - _ROUNDING)
    turned = count < current if dampened > 1 else count > current
    return current if turned else count


def _near(ratio: float) -> bool:
    return abs(ratio - 1) <= TOLERANCE + _ROUNDING


class HpaGpu:
    """An HPA for each role on its pods' GPU utilisation."""

    name = "hpa-gpu"
    interval = PERIOD

    def __init__(self, _grounds: Grounds) -> None:
        self._scalers = {role: Autoscaler() for role in ROLES}

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now; pods that are starting have no metric yet."""
        counts = {}
        for role, scaler in self._scalers.items():
            current = max(1, seen.wanted[role])
            values = seen.gauge("gpu_util", role)
            wish = from_pods(values, seen.present[role], current, UTILISATION) if values else None
            counts[role] = scaler.desired(seen.now, current, wish)
        return counts
