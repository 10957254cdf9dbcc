"""What the forecast keeps of the service's own past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Role

Slots = tuple[float | None, ...]
"""Tokens/s, a slot each, newest last; None is a hole: unknown, never zero."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The demand to be expected within some slots, and how well that was foreseen so far."""

    ahead: int
    """Slots."""
    model: str
    """Which one was best; ``last`` is the last value."""
    value: float
    """Mean demand of the slot that far ahead, tokens/s."""
    now: float
    """Demand of now, tokens/s: the newest slot or the level, whichever is larger."""
    least: float
    """A shortfall is a share of ``value``, at least of this, tokens/s: near zero, shares say nothing."""
    shortfall: float
    """Quantile of what the highest demand within the slots was above ``value``; 0 or more."""
    error: float
    """Sum of the model's absolute errors so far, as a share of the demand that came."""
    error_last: float
    """The same of the last value."""


@dataclass(frozen=True, slots=True)
class History:
    """Demand on one role, slot by slot."""

    means: Slots = ()
    peaks: Slots = ()
    """The highest demand of a short window in the slot."""
    seasons: Mapping[str, Slots] = field(default_factory=dict)
    """Mean demand by part of the day and of the week, of what is older than the slots kept."""
    held: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Of what is older than the slots kept, fading: sums of a model's errors, of those of the last
    value beside it, and of the demand that came; by horizon and model (``out.day``)."""
    out: Outlook | None = None
    """Over the time that a launch takes; None while too little is known."""
    stay: Outlook | None = None
    """Over the time that a withdrawal and a launch take."""


@dataclass(frozen=True, slots=True)
class ForecastMemory:
    """What the forecast keeps of the service's own past: some KB, written once a slot."""

    slot: int | None = None
    """Number of the newest slot that is over."""
    roles: Mapping[Role, History] = field(default_factory=dict)
