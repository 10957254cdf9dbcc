"""The whole test: every split is driven to its limit, then ratio and targets follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.search import Tell, best_of, ceiling_of, limit_of
from heteroscale_workbench.pressure.values import Bench, Counts, Goal, Limit, PressureError

ABOUND = 3
"""Times as many of the other role as the best split has, so that it is no bottleneck."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What every split carried at its limit, and what follows."""

    limits: Sequence[Limit]
    best: Limit
    ceiling: float = 1.0
    """Share of requests that was met at a light load."""

    @property
    def ratio(self) -> str:
        """The best split as a ratio in lowest terms: 8P8D is 1:1."""
        prefill, decode = self.best.counts
        both = math.gcd(prefill, decode)
        return f"{prefill // both}:{decode // both}"

    @property
    def bounds(self) -> tuple[float, float]:
        """The ratios beyond which a split held no load; 0 and infinite where none was found."""
        ratios = [
            (one.counts.prefill / one.counts.decode, one.trial is not None) for one in self.limits
        ]
        held = [ratio for ratio, good in ratios if good]
        least, most = min(held), max(held)
        below = any(ratio < least for ratio, _ in ratios)
        above = any(ratio > most for ratio, _ in ratios)
        return least if below else 0.0, most if above else math.inf

    def limits_per_instance(self) -> Mapping[Role, float]:
        """Return the most tokens/s that one instance carried while the SLO held.

        Of all splits: where a role was in excess it was not driven to its limit.
        """
        held = [(limit.counts, limit.trial) for limit in self.limits if limit.trial]
        return {
            Role.PREFILL: max(trial.prefill_tps / counts.prefill for counts, trial in held),
            Role.DECODE: max(trial.decode_tps / counts.decode for counts, trial in held),
        }


def splits_of(units: int) -> list[Counts]:
    """Return every split of ``units`` instances with one of each role at least."""
    return [Counts(prefill, units - prefill) for prefill in range(1, units)]


async def pressure_test(
    bench: Bench,
    splits: Sequence[Counts],
    first: float,
    goal: Goal,
    *,
    journal: Journal,
    tell: Tell,
) -> Finding:
    """Drive each split to its limit, each search beginning where the last one ended.

    The ceiling is measured on the split that has most of its scarcer role: nobody waits there.

    Raises:
        PressureError: nothing holds, or the bench cannot go on.

    """
    ceiling = await ceiling_of(bench, max(splits, key=min), journal=journal, tell=tell)
    goal = goal.below(ceiling)
    limits: list[Limit] = []
    for counts in splits:
        limit = await limit_of(bench, counts, first, goal, journal=journal, tell=tell)
        limits.append(limit)
        if limit.trial is not None:
            first = limit.trial.rate
    return Finding(limits, best_of(limits), ceiling)


async def limit_alone(
    bench: Bench, role: Role, best: Limit, goal: Goal, *, journal: Journal, tell: Tell
) -> float:
    """Return the most tokens/s that an instance of ``role`` carries when the other role abounds.

    Raises:
        PressureError: it holds no load.

    """
    prefill, decode = best.counts
    if role is Role.PREFILL:
        counts = Counts(prefill, ABOUND * decode)
    else:
        counts = Counts(ABOUND * prefill, decode)
    first = best.trial.rate if best.trial else 1.0
    goal = goal.below(await ceiling_of(bench, counts, journal=journal, tell=tell))
    limit = await limit_of(bench, counts, first, goal, journal=journal, tell=tell)
    if limit.trial is None:
        raise PressureError(f"{bench.label}: no load is held within the SLO")
    if role is Role.PREFILL:
        return limit.trial.prefill_tps / prefill
    return limit.trial.decode_tps / decode


def target_of(limit: float, tolerance_out: float) -> float:
    """Return the target that makes the law scale out when an instance is at its limit.

    It does above (1 + θ_out) × target (docs/service.md), so the target is that much below the limit.
    """
    return limit / (1 + tolerance_out)
