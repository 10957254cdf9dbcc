"""The mistakes that would do most harm, each made in one place: every one must turn a test red.

A file for each room; a new mistake goes to the end of its room's.
"""

from __future__ import annotations

from tests.mutants.catalogue import (
    of_agent,
    of_claims,
    of_knowledge,
    of_placement,
    of_policy,
    of_subclusters,
    of_turn,
)
from tests.mutants.catalogue.mutant import Mutant

MUTANTS = (
    *of_agent.MUTANTS,
    *of_knowledge.MUTANTS,
    *of_policy.MUTANTS,
    *of_claims.MUTANTS,
    *of_turn.MUTANTS,
    *of_placement.MUTANTS,
    *of_subclusters.MUTANTS,
)

__all__ = ["MUTANTS", "Mutant"]
