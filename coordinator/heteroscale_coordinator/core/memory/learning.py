"""What was learned of targets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearningMemory:
    """What was learned of targets."""
