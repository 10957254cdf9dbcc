"""What a policy did to the counts: scale events, reversals, and how far it was from the best ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.measures.schedule import Schedule
from heteroscale_simulator.traffic.load import Floats

REVERSAL_WITHIN = 600.0
"""Seconds."""


class Scaling(Protocol):
    """A decision of a policy."""

    @property
    def at(self) -> float:
        """Seconds from the run's start."""

    @property
    def delta(self) -> Mapping[Role, int]:
        """Change of the counts that are to serve, with its sign."""


def scale_events(decisions: Iterable[Scaling]) -> int:
    """Return how many decisions changed a count."""
    return sum(any(decision.delta.values()) for decision in decisions)


def reversals(decisions: Iterable[Scaling]) -> int:
    """Return how many scale events turn a role the other way within ten minutes of its last one.

    ``decisions`` are one service's, in order of time. One that turns both roles counts once.
    """
    last: dict[Role, tuple[float, bool]] = {}
    found = 0
    for decision in decisions:
        changes = {role: change > 0 for role, change in decision.delta.items() if change}
        found += any(
            role in last
            and last[role][1] != grows
            and decision.at - last[role][0] <= REVERSAL_WITHIN
            for role, grows in changes.items()
        )
        last |= {role: (decision.at, grows) for role, grows in changes.items()}
    return found


def ratio_error(intervals: Sequence[Interval], oracle: Schedule) -> tuple[float, float]:
    """Return (∫ |ln((P/D) ÷ (P*/D*))| dt, seconds), P and D in service, P* and D* the oracle's.

    Only while both roles have an instance in service: there is no ratio otherwise.
    """
    serving = [one for one in intervals if one.state is InstanceState.IN_SERVICE]
    bounds = [at for one in serving for at in (one.begin, one.end)]
    edges = np.unique(np.concatenate([np.array(bounds, dtype=np.float64), oracle.edges]))
    edges = edges[(edges >= oracle.edges[0]) & (edges <= oracle.edges[-1])]
    p, d = (_standing(serving, role, edges) for role in (Role.PREFILL, Role.DECODE))
    minute = np.searchsorted(oracle.edges, edges[:-1], side="right") - 1
    best_p, best_d = (oracle.counts[role][minute] for role in (Role.PREFILL, Role.DECODE))
    known = (p > 0) & (d > 0)
    seconds = np.diff(edges)[known]
    off = np.abs(np.log(p[known] * best_d[known] / (d[known] * best_p[known])))
    return float((off * seconds).sum()), float(seconds.sum())


def _standing(serving: Sequence[Interval], role: Role, edges: Floats) -> Floats:
    """Return how many stand in each stretch between two edges."""
    own = [one for one in serving if one.role is role]
    change = np.zeros(len(edges) + 1)
    np.add.at(change, np.searchsorted(edges, [one.begin for one in own]), 1.0)
    np.add.at(change, np.searchsorted(edges, [one.end for one in own]), -1.0)
    standing: Floats = np.cumsum(change)[: len(edges) - 1]
    return standing
