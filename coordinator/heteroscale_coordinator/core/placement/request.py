"""What a service asks of a cycle, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.placement.limits import NO_LIMITS, Limits
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    Placed,
    Standing,
    Victims,
)
from heteroscale_coordinator.core.spec import RatioSpec

_ANY = RatioSpec(min=0.5, max=0.5)


@dataclass(frozen=True, slots=True)
class Request:
    """What one service asks of a cycle."""

    ask: Ask
    """Counts above zero are to be placed, counts below are to leave."""
    standing: Sequence[Standing] = ()
    """The service's instances; for a scale-in, those that may leave."""
    priority: int = 0
    """Higher goes first."""
    share: float = 0.0
    """Among equals the smallest goes first: what part of its wish a service has already, say."""
    ratio: RatioSpec = _ANY
    """By which a scale-in keeps its groups in balance."""
    stays: Sequence[Standing] = ()
    """Those of a scale-in that stand and may not leave: they count in spread limits."""
    parts: Sequence[Ask] = ()
    """Smaller steps: where the whole has no place, the first that has one. Nobody moves for it."""
    limits: Sequence[Limits] = (NO_LIMITS,)
    """What is kept back from it; the next is for where it finds no place under the one before."""
    said: int = 0
    """How many rejected candidates are told of a place."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request."""

    request: Request
    placed: Placed | Infeasible | None = None
    """None: nothing was to be placed."""
    victims: Victims | None = None
    """None: nothing was to leave."""
    part: Ask | None = None
    """The smaller step that ``placed`` is of; None: it is the whole."""
    refused: Infeasible | None = None
    """Why the whole has no place, where a part was placed."""
