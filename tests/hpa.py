"""What a HorizontalPodAutoscaler makes of an external metric, written from its documentation.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details: with a
target of type AverageValue the metric is divided by the target, whatever stands, unless the quotient
per replica is inside the tolerance; then nothing changes. Quantities are whole thousandths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Hpa:
    """One HPA with one external metric of type AverageValue."""

    least: int = 1
    most: int = 100
    tolerance: float = 0.1

    def desired(self, replicas: int, metric: float | None, target: float = 1.0) -> int:
        """Return the replicas it asks for; ``metric`` None: it could not be read, so nothing changes."""
        if metric is None or replicas == 0:
            return replicas
        value, each = round(metric * 1000), round(target * 1000)
        share = value / (each * replicas)
        if 1.0 - self.tolerance <= share <= 1.0 + self.tolerance:
            wanted = replicas
        else:
            wanted = math.ceil(value / each)
        return min(max(wanted, self.least), self.most)
