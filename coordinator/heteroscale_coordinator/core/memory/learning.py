"""What was learned of targets, and for what make of engine each target in force was set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from heteroscale.words import Role


class Held(NamedTuple):
    """An observation in which every promise was kept."""

    rate: float
    """Tokens/s of one instance, the mean of its GPU type."""
    share: float
    """The role's latency as a share of its SLO."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What was seen of one role on one GPU type at one class of context."""

    role: Role
    gpu_type: str
    context: int
    """Upper bound of mean prompt tokens, thousands, a power of two; 0: not told."""
    make: str = ""
    """Of the engine it was seen on; another make begins anew."""
    windows: int = 0
    """Observations in all."""
    held: tuple[Held, ...] = ()
    """The highest rates at which promises were kept, highest first, a few."""
    broken: tuple[float, ...] = ()
    """The lowest rates at which the role's promise was not, lowest first, a few."""
    at: float = 0.0
    """Of the last observation."""


@dataclass(frozen=True, slots=True)
class Mark:
    """For what a target in force was set."""

    target: str
    make: str


@dataclass(frozen=True, slots=True)
class LearningMemory:
    """What was learned of targets, and what has become of those in force."""

    learned: Mapping[str, Learned] = field(default_factory=dict)
    """By role, GPU type and class of context."""
    looked_at: float = 0.0
    """When the last observation ended."""
    marks: Mapping[Role, Mark] = field(default_factory=dict)
    stale: Mapping[Role, str] = field(default_factory=dict)
    """Roles whose target no longer fits what runs, and why."""
