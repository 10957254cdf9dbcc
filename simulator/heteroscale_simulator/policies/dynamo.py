"""Dynamo's first SLA planner: every 180 s, the counts that the last interval's tokens would fill.

⌈requests × prompt tokens ÷ interval ÷ an instance's prefill throughput⌉, and the same for output and the
best decode throughput that holds the SLO: to 100 % of capacity, without hysteresis or head-room. The
next interval is taken to be as the last (its ``constant`` predictor; ARIMA is its default).
"""

from __future__ import annotations

from math import ceil

from heteroscale_simulator.policies.grounds import ROLES, Grounds
from heteroscale_simulator.policies.port import Counts, Seen

PERIOD = 180.0


class DynamoSla:
    """The planner; a role whose load is unknown stays as it is."""

    name = "dynamo-sla"
    interval = PERIOD

    def __init__(self, grounds: Grounds) -> None:
        self._targets = {role: grounds.targets[role] for role in ROLES}

    def decide(self, seen: Seen) -> Counts:
        """Return the counts wanted now."""
        counts = {}
        for role, target in self._targets.items():
            total = seen.offered(role, PERIOD)
            wish = seen.wanted[role] if total is None else ceil(total / target - 1e-9)
            counts[role] = max(1, wish)
        return counts
