"""What the forecast keeps of the service's own past."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForecastMemory:
    """What the forecast keeps of the service's own past."""
