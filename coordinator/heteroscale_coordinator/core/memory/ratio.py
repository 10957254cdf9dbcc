"""What the ratio guard and its advisor keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RatioMemory:
    """What the ratio guard and its advisor keep."""
