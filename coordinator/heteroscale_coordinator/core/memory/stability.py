"""What the flap guard and the circuit breaker keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from heteroscale.words import Role


@dataclass(frozen=True, slots=True)
class Breaker:
    """Launches failed in a row at one node, on one GPU type, or in one sub-cluster."""

    failures: int = 0
    failed_at: float = 0.0
    """Of the last one."""
    openings: int = 0
    """How often it opened since the last success; each doubles the time."""
    until: float | None = None
    """Open until then, half-open afterwards. None: closed."""
    where: tuple[str, ...] = ()
    """Of a GPU type or a sub-cluster: the nodes at which it failed."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A step that found no place, as long as it goes on being asked for."""

    delta: Mapping[Role, int]
    since: float
    why: str
    """One sentence."""
    every: float = 10.0
    """Seconds from one try to the next, counted from ``since``: nothing is written for a try in vain."""

    def between_tries(self, now: float) -> bool:
        """Return whether ``now`` is nearer to the middle between two tries than to one of them."""
        share = (now - self.since) % self.every / self.every
        return 0.25 <= share < 0.75  # noqa: PLR2004 - a quarter to each side of the middle


@dataclass(frozen=True, slots=True)
class StabilityMemory:
    """What the flap guard and the circuit breaker keep."""

    direction: Literal["", "out", "in"] = ""
    """Of the last change of the wanted counts by a law."""
    changed_at: float | None = None
    reversals: tuple[float, ...] = ()
    """When counts last changed their direction too soon, newest last, at most 16."""
    reversal_count: int = 0
    """Reversals ever."""
    nodes: Mapping[str, Breaker] = field(default_factory=dict)
    """By agent id; what is not named is closed."""
    types: Mapping[str, Breaker] = field(default_factory=dict)
    """By GPU type."""
    sub_clusters: Mapping[str, Breaker] = field(default_factory=dict)
    """By name."""
    unplaced: Unplaced | None = None
    given: tuple[tuple[float, int], ...] = ()
    """GPUs given to services of higher priority within the last hour: when, and how many."""
