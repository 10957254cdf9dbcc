"""Who held which GPUs from when to when, and what they did: GPU-hours are billed from this alone."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import InstanceState, Role


@dataclass(frozen=True, slots=True)
class Interval:
    """An instance in one state. Times in seconds from the run's start; ``end`` ≥ ``begin``."""

    service: str
    instance_id: str
    role: Role
    gpu_type: str
    gpus: int
    state: InstanceState
    """Every state from PENDING to DRAINING holds its GPUs."""
    begin: float
    end: float

    @property
    def gpu_hours(self) -> float:
        """GPU-hours billed for it."""
        return self.gpus * (self.end - self.begin) / 3600
