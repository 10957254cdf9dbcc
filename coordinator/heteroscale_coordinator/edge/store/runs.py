"""Equal decisions as one: first, last, count and range (pure).

A service holds thousands of times a day for one reason. Two decisions are equal when they say the
same in the same words, numbers aside, and neither did anything: holds, and what advisory mode or a
pause kept from being carried out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from heteroscale_coordinator.core.model import Action, Decision

_NUMBER = re.compile(r"\d[\d.,:]*")
FULL_EVERY_S = 300.0
"""A run is broken off after so long, so that the past keeps full records."""


@dataclass(slots=True)
class _Run:
    newest: Decision
    ranges: dict[str, tuple[float, float, str]] = field(default_factory=dict)

    def widen(self, decision: Decision) -> None:
        for name, value, unit, _, _ in decision.signals:
            if value is not None:
                low, high, _ = self.ranges.get(name, (value, value, unit))
                self.ranges[name] = (min(low, value), max(high, value), unit)

    def shown(self) -> Decision:
        spread = {
            f"range of {name}": f"{low:.6g} to {high:.6g} {unit}".rstrip()
            for name, (low, high, unit) in self.ranges.items()
            if low != high
        }
        return replace(self.newest, inputs={**self.newest.inputs, **spread})


class RunLength:
    """The newest run of each service. Seed it with what was shown before."""

    def __init__(self, seed: Iterable[Decision] = (), *, full_every: float = FULL_EVERY_S) -> None:
        self._full_every = full_every
        self._runs = {decision.service: _begin(decision) for decision in seed}

    def fold(self, decision: Decision) -> Decision:
        """Return ``decision``, or the run it prolongs.

        A run has the id and time of its first decision, words, inputs and signals of its last, the
        count, and the range of every signal that moved.
        """
        run = self._runs.get(decision.service)
        if run is None or not self._prolongs(decision, run.newest):
            self._runs[decision.service] = _begin(decision)
            return decision
        first = run.newest
        run.newest = replace(
            decision,
            decision_id=first.decision_id,
            at=first.at,
            last_at=decision.at,
            repeat_count=first.repeat_count + 1,
        )
        run.widen(decision)
        return run.shown()

    def _prolongs(self, decision: Decision, first: Decision) -> bool:
        young = decision.at - first.at < self._full_every
        return young and _sameness(decision) is not None and _sameness(decision) == _sameness(first)


def _begin(decision: Decision) -> _Run:
    run = _Run(decision)
    run.widen(decision)
    return run


def _sameness(decision: Decision) -> tuple[object, ...] | None:
    """Return what two equal decisions share; None for one that did something."""
    if decision.action is not Action.HOLD and not decision.advisory:
        return None
    return (
        decision.action,
        decision.bound_by,
        decision.advisory,
        dict(decision.delta),
        _NUMBER.sub("#", decision.reason),
    )
