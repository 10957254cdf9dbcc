"""What the flap guard and the circuit breaker keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StabilityMemory:
    """What the flap guard and the circuit breaker keep."""
