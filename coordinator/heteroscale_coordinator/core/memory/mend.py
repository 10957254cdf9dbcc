"""The move of one instance to a better place, by which a deployment group is healed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MendMemory:
    """The newest move: one was launched, and then another leaves."""

    at: float
    leaves: str
    """Instance that leaves once the new one serves; empty: the move is over."""
    comes: str = ""
    why: str = ""
