"""The search: the largest load each deployment holds, then the deployment that carries most.

A load is doubled until it is not held, then the gap is halved (in its logarithm) until it is small.
What no engine can meet, however idle, is no fault of a load: that share is measured first.
Every trial goes into a journal first, so that an interrupted test goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.values import Bench, Counts, Goal, Limit, PressureError, Trial

LEAST_SHARE = 1 / 128
"""Of the first load: where not even that is held, nothing is."""

LEAST_CEILING = 0.9
"""Share met at a light load below which the SLO is none that these engines can promise."""

Tell = Callable[[Trial, bool], None]
"""Told of each trial, and whether its load was held."""


def holds(trial: Trial, goal: Goal) -> bool:
    """Return whether a trial's load was held."""
    return trial.attainment >= goal.attainment


async def ceiling_of(bench: Bench, counts: Counts, *, journal: Journal, tell: Tell) -> float:
    """Return the share of requests that is met at a light load: who misses there misses next to alone.

    Raises:
        PressureError: it is below ``LEAST_CEILING``.

    """
    light = _Search(bench, counts, Goal(LEAST_CEILING), journal=journal, tell=tell)
    ceiling = (await light.attempt(bench.light_rate(counts))).attainment
    if ceiling < LEAST_CEILING:
        raise PressureError(
            f"{bench.label + ': ' if bench.label else ''}at a light load only {100 * ceiling:.1f} % of "
            "the requests are met: is the SLO one that these engines can hold at all? `ttft` must "
            "exceed the prefill of a whole prompt, `tbt` one decode step."
        )
    return ceiling


async def limit_of(
    bench: Bench, counts: Counts, first: float, goal: Goal, *, journal: Journal, tell: Tell
) -> Limit:
    """Return the largest load that ``counts`` hold; ``first`` requests/s is where the search begins.

    Raises:
        PressureError: no end after ``goal.max_trials``: loads are held and not held without order.

    """
    search = _Search(bench, counts, goal, journal=journal, tell=tell)
    held, over = await search.bracket(first)
    while held is not None and over / held.rate > 1 + goal.tolerance:
        trial = await search.attempt(math.sqrt(held.rate * over))
        if holds(trial, goal):
            held = trial
        else:
            over = trial.rate
    return Limit(counts, held, search.trials)


class _Search:
    """The trials on one deployment; it is made to stand only when a trial is not in the journal."""

    def __init__(
        self, bench: Bench, counts: Counts, goal: Goal, *, journal: Journal, tell: Tell
    ) -> None:
        self.trials = 0
        self._bench, self._counts = bench, counts
        self._goal, self._journal, self._tell = goal, journal, tell
        self._stands = False

    async def bracket(self, first: float) -> tuple[Trial | None, float]:
        """Return (a trial that was held, a load above it that was not); (None, …) if none is held."""
        held: Trial | None = None
        over = math.inf
        rate = first
        while held is None or math.isinf(over):
            trial = await self.attempt(rate)
            if holds(trial, self._goal):
                held = trial
                rate = 2 * rate
            else:
                over = rate
                rate = rate / 2
            if rate < LEAST_SHARE * first:
                break
        return held, over

    async def attempt(self, rate: float) -> Trial:
        """Return what became of a load, from the journal or from the deployment."""
        self.trials += 1
        if self.trials > self._goal.max_trials:
            raise PressureError(
                f"{self._counts}: no limit after {self._goal.max_trials} loads; is the deployment "
                "alone on its machines, and the SLO one that it can hold?"
            )
        trial = self._journal.find(self._bench.label, self._counts, rate)
        if trial is None:
            if not self._stands:
                await self._bench.stand(self._counts)
                self._stands = True
            trial = await self._bench.load(self._counts, rate)
            self._journal.add(trial)
        self._tell(trial, holds(trial, self._goal))
        return trial


def best_of(limits: Iterable[Limit]) -> Limit:
    """Return the deployment that generates most tokens/s per instance at its limit.

    Raises:
        PressureError: none held any load.

    """
    held = [limit for limit in limits if limit.trial is not None]
    if not held:
        raise PressureError(
            "no deployment held any load within the SLO, though single requests are met: are these "
            "few instances enough for any traffic? Try more --units, or another split."
        )
    return max(held, key=lambda limit: (_worth(limit), -sum(limit.counts)))


def _worth(limit: Limit) -> float:
    return limit.trial.decode_tps / sum(limit.counts) if limit.trial else 0.0
