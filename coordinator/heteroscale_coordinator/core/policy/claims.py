"""What a law says of the counts: more is needed, or so many must stay. One vocabulary for all laws.

A law speaks for the roles it knows something of. The joint law takes, role by role, the largest of
all needs, and lets nobody leave below the highest floor (paper §3; design §6.8).
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale_coordinator.core.model import Counts


@dataclass(frozen=True, slots=True)
class Need:
    """Counts that a law asks for now, never below the present ones, and why in words."""

    counts: Counts
    """Of every role, or of those it speaks for."""
    why: str
    bound_by: str
    """The law, as ``Verdict.bound_by`` names it."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The fewest that a law lets remain in service; a role it does not name may go as others say."""

    law: str
    counts: Counts
    why: str
