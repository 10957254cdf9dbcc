"""What is in reach of rules that know every need up to now, and nothing of what comes.

Such a rule reads the free oracle's need of each minute at once and exactly. It keeps (1 + ``more``) × the
highest need of the last ``hold`` minutes; what it launches serves a start-up later, rounded down to
minutes. A minute is missed only where a role is short by more than the head-room, and by more than one
instance; the queue that a missed minute leaves costs nothing. ``hold`` and ``more`` are chosen
afterwards, for this very traffic. A policy has none of these favours, but it may change what it keeps as
it goes, and a rule may not: it is a measure of how far the goal is, no proof that it cannot be reached.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.policies.why import HEADROOM, MINUTE, ROLES, Minute

COST = 1.15
"""Most GPU-hours, as a multiple of the free oracle's."""
MET = 0.99
"""Least joint attainment."""
HOLDS = (0, 2, 5, 10, 15, 20, 30, 45, 60, 120, 240)
"""Minutes."""
STEPS = 31
"""Of a twentieth each: up to two and a half times what is needed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, and what it comes to."""

    cost: float
    """Instance-minutes ÷ the oracle's."""
    met: float
    """Share of the arrived requests, 0 to 1."""
    hold: int
    more: float


@dataclass(frozen=True, slots=True)
class Reach:
    """The best of all rules; None where no rule does it."""

    cheapest: Rule | None
    """Of those that meet enough."""
    best: Rule | None
    """Of those that cost no more than the goal allows."""

    @property
    def reached(self) -> bool:
        """Whether some rule does both."""
        return self.cheapest is not None and self.cheapest.cost <= COST

    @property
    def text(self) -> str:
        """The reach in words."""
        dear = f"{100 * MET:.0f} % cost them {self.cheapest.cost:.2f}" if self.cheapest else ""
        most = f"{COST} × buys them {100 * self.best.met:.1f} %" if self.best else ""
        known = ", ".join(filter(None, (dear or f"none meets {100 * MET:.0f} %", most)))
        return f"beyond the best fixed rule that knows every need up to now: {known}"


def reach_of(minutes: Sequence[Minute], startup: float) -> Reach:
    """Return what the rules come to on a run's traffic; ``startup`` in seconds."""
    lead = int(startup // MINUTE)
    steps = [step / 20 for step in range(STEPS)]
    rules = [rule(minutes, lead, hold, more) for hold, more in itertools.product(HOLDS, steps)]
    enough = [one for one in rules if one.met >= MET]
    cheap = [one for one in rules if one.cost <= COST]
    return Reach(
        min(enough, key=lambda one: one.cost, default=None),
        max(cheap, key=lambda one: one.met, default=None),
    )


def rule(minutes: Sequence[Minute], lead: int, hold: int, more: float) -> Rule:
    """Return what one rule comes to; it begins with what the run began with, or needs at once."""
    paid, lost = 0.0, [False] * len(minutes)
    for role in ROLES:
        needs = [one.need[role] for one in minutes]
        wished = _wished(needs, hold, more)
        first = max(minutes[0].have[role], wished[0])
        serving = [
            first if at < lead else min(wish, wished[at - lead]) for at, wish in enumerate(wished)
        ]
        paid += sum(map(max, wished, serving))
        short = map(_short, needs, serving)
        lost = [before or now for before, now in zip(lost, short, strict=True)]
    missed = sum(one.arrived for one, bad in zip(minutes, lost, strict=True) if bad)
    arrived = sum(one.arrived for one in minutes)
    spent = sum(one.need[role] for one in minutes for role in ROLES)
    return Rule(paid / spent, 1 - missed / arrived if arrived else 1.0, hold, more)


def _wished(needs: Sequence[float], hold: int, more: float) -> list[float]:
    return [(1 + more) * max(needs[max(0, at - hold) : at + 1]) for at in range(len(needs))]


def _short(need: float, have: float) -> bool:
    return need > max((1 + HEADROOM) * have, have + 1)
