"""Instances that are being emptied before they are stopped, as the driver carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Command
from heteroscale_coordinator.core.spec import DrainSpec
from heteroscale_coordinator.edge.adapters.quiescence import Progress, Terms


@dataclass(slots=True)
class Drain:
    """One of them."""

    command_id: str
    since: float
    """When it was ordered, on the coordinator's clock."""
    terms: Terms
    grace: float
    force_after: float | None
    lease: float
    progress: Progress = field(default_factory=Progress)
    again_at: float = 0.0
    """Not stopped before: the cluster kept it at the last try."""
    message: str = "draining"
    told_at: float = 0.0

    @classmethod
    def of(cls, command: Command, spec: DrainSpec, role: str) -> Self:
        """Return the emptying that a drain command asks for."""
        lease = spec.lease if command.lease is None else command.lease
        terms = Terms(spec.settle, spec.quiet_scrapes, Role(role))
        at = command.created_at
        return cls(command.command_id, at, terms, spec.grace, spec.force_after, lease)
