"""Equal decisions as one: first, last, count and range (pure).

A service holds thousands of times a day for one reason. Two decisions are equal when they say the
same in the same words, numbers aside, and neither did anything: holds, and what advisory mode or a
pause kept from being carried out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import isfinite

from heteroscale_coordinator.core.model import Action, Decision, Range

_NUMBER = re.compile(r"\d[\d.,:]*")
FULL_EVERY_S = 300.0
"""A run is broken off after so long, so that the past keeps full records."""


@dataclass(slots=True)
class _Run:
    newest: Decision
    ranges: dict[str, Range] = field(default_factory=dict)

    def widen(self, decision: Decision) -> None:
        for name, value, unit in _figures(decision):
            low, high, _ = self.ranges.get(name, (value, value, unit))
            self.ranges[name] = Range(min(low, value), max(high, value), unit)

    def shown(self) -> Decision:
        moved = {name: found for name, found in self.ranges.items() if found[0] != found[1]}
        return replace(self.newest, ranges=moved)


def _figures(decision: Decision) -> Iterator[tuple[str, float, str]]:
    """Return every number that a decision states: signals, and what was reckoned from them."""
    for name, value, unit, *_ in decision.signals:
        if value is not None and isfinite(value):
            yield name, value, unit
    for name, line in decision.sums.items():
        if isfinite(line.value):
            yield name, line.value, line.unit


class RunLength:
    """The newest run of each service. Seed it with what was shown before."""

    def __init__(self, seed: Iterable[Decision] = (), *, full_every: float = FULL_EVERY_S) -> None:
        self._full_every = full_every
        self._runs = {decision.service: _begin(decision) for decision in seed}

    def fold(self, decision: Decision) -> Decision:
        """Return ``decision``, or the run it prolongs.

        A run has the id and time of its first decision, words, inputs and signals of its last, the
        count, and the range of every figure that moved.
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
    run = _Run(decision, dict(decision.ranges))
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
