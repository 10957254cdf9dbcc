"""What is kept of a service that others scale by our counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Role


@dataclass(frozen=True, slots=True)
class ExternalMemory:
    """What others are asked for, all roles in one value, and what of it is there."""

    counts: Mapping[Role, int] = field(default_factory=dict)
    """Instances asked for. Empty: nothing is asked yet, which is not zero."""
    generation: int = 0
    """Grows with every change of ``counts``; one generation is one decision on both roles."""
    at: float | None = None
    """When the counts last changed."""
    there: Mapping[Role, int] = field(default_factory=dict)
    """Instances that stand, as last seen."""
    still_since: float | None = None
    """Since when that has not changed."""
    apart: Mapping[Role, float] = field(default_factory=dict)
    """Of the roles of which another number stands than is asked for: since when it has not moved."""
