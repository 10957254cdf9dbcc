"""What is remembered of demand, beyond what engines' tracks reach: a few numbers for each role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemandPast:
    """The demand on one role in the last minutes, tokens/s, by slots of ``past.SLOT`` seconds."""

    at: float
    """When the newest slot ended."""
    peaks: tuple[float, ...] = ()
    """The highest that was to be carried in each slot, newest last."""
    means: tuple[float, ...] = ()
    """The mean over the long window at the end of each slot, newest last."""
    spread: float = 0.0
    """Mean square of what demand rose by within one start-up time, old rises fading; (tokens/s)²."""
    since: float | None = None
    """Since when its rises are watched; None: for long (an older version did not note it)."""


@dataclass(frozen=True, slots=True)
class LengthsPast:
    """Prompts that ended in the last minutes, older ones fading; see ``policy/lengths.py``."""

    at: float
    """When the newest were added."""
    tokens: float
    requests: float
