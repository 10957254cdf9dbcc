"""What rivals are made from: the same targets for all, and for replays the schedules they replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_simulator.measures.figures import Limits

ROLES = (Role.PREFILL, Role.DECODE)


@dataclass(frozen=True)
class Grounds:
    """What is known of a service before its run begins."""

    targets: Mapping[Role, float]
    """Tokens/s of the largest load that an instance holds its SLO under; see ``measures.targets``."""
    limits: Limits | None = None
    """Schedules with foresight; only who replays one needs them."""
    head_room: float = 0.30
    """Share of an instance's capacity that rivals keep free, if they do."""

    @property
    def with_head_room(self) -> dict[Role, float]:
        """Tokens/s that an instance is given, by role."""
        return {role: self.targets[role] * (1 - self.head_room) for role in ROLES}

    @property
    def schedules(self) -> Limits:
        """The schedules with foresight.

        Raises:
            ValueError: there are none.

        """
        if self.limits is None:
            raise ValueError("a policy with foresight needs the load's limits")
        return self.limits
