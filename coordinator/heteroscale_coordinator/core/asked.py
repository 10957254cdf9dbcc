"""What services asked of the cycle of placement, and the cycle itself: kept between turns, never stored.

A cycle may take several turns. What was asked is known by what it was asked of, so that it can be seen at
the end whether that is still so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.model import Decision, Service, Verdict
from heteroscale_coordinator.core.placement import Cycle, Request


@dataclass(frozen=True, slots=True)
class Question:
    """A verdict that waits for its places, or for who leaves."""

    service: Service
    """As it was evaluated."""
    known: Service
    """As it was stored then."""
    members: frozenset[str]
    """Ids of the instances that held GPUs then."""
    verdict: Verdict
    decision: Decision
    request: Request
    barred: Barred
    """What its breakers close."""


@dataclass(slots=True)
class Asked:
    """The open questions by service, and the cycle that answers them."""

    questions: dict[str, Question] = field(default_factory=dict)
    cycle: Cycle | None = None
    """None: it has not begun."""
    rounds: int = 0
    """How often places no longer held when they were to be committed."""
    waited: int = 0
    """Turns that it waited for the fleet to be read."""

    @property
    def wanting(self) -> bool:
        """Whether somebody waits for a place."""
        asks = (question.request.ask for question in self.questions.values())
        return any(count > 0 for ask in asks for count in ask.delta.values())

    def ask(self, question: Question) -> None:
        """Put a question into the cycle that is about to begin."""
        self.questions[question.service.name] = question

    def close(self) -> None:
        """End the cycle, whatever is still open."""
        cycle = self.cycle
        self.questions.clear()
        self.cycle, self.rounds, self.waited = None, 0, 0
        if cycle is not None:
            cycle.end()
