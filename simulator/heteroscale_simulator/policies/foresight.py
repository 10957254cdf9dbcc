"""Policies that know the load: always the peak's counts, or an oracle's schedule replayed.

A replay asks for what the schedule holds at the moment, an instance ``lead`` before it is needed. What
it shows is whether the limit would be met: starts vary, drains take time, and the plant is no formula.
"""

from __future__ import annotations

import numpy as np

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.measures.schedule import Schedule
from heteroscale_simulator.policies.grounds import ROLES
from heteroscale_simulator.policies.port import Counts, Seen


def planned(spec: ServiceSpec, schedule: Schedule) -> ServiceSpec:
    """Return the service with the schedule's own GPU types, in its order: a replay only counts."""
    roles = {
        role: asked.model_copy(update={"gpu_types": schedule.gpu_types(role)})
        for role, asked in spec.roles.items()
    }
    return spec.model_copy(update={"roles": roles})


class Replay:
    """Asks for what a schedule holds, launches included."""

    interval = 1.0
    """Seconds: an instance is launched in the very second in which the schedule does."""

    def __init__(self, name: str, schedule: Schedule) -> None:
        self.name = name
        end = int(np.ceil(schedule.edges[-1]))
        self._counts = {}
        for role in ROLES:
            change = np.zeros(end + 1, dtype=np.int64)
            for one in schedule.held:
                if one.role is role:
                    change[int(one.launched)] += 1
                    change[min(end, int(np.ceil(one.end)))] -= 1
            self._counts[role] = np.cumsum(change)[:end]

    def decide(self, seen: Seen) -> Counts:
        """Return the counts that the schedule holds now; after its end, the last ones."""
        counts: dict[Role, int] = {}
        for role, held in self._counts.items():
            counts[role] = max(1, int(held[min(int(seen.now), len(held) - 1)]))
        return counts
