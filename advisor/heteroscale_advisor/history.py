"""What a service did over some time: counts, load and latency by slot, as arrays. Pure.

NaN is unknown. An instance is there from its first known slot to its last, less what it was provably
away (``presence``); a hole between makes the slot unknown for its whole role, because what it did is
missing from every sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_advisor.presence import Bools, Floats, Scraped, there
from heteroscale_coordinator.edge.prometheus.answers import Matrix
from heteroscale_coordinator.edge.prometheus.identify import Seen

COUNTERS = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted", "ttft_sum", "ttft_count", "tbt_sum", "tbt_count"),
)
LATENCIES: Mapping[Role, tuple[str, ...]] = {
    Role.PREFILL: ("ttft",),
    Role.DECODE: ("tbt",),
    Role.AGGREGATED: ("ttft", "tbt"),
}
"""What users wait for at each role that is advised on: the first token, and each that follows."""
UP, STOOD = "up", "stood"
"""Told beside the signals: whether an instance was scraped; what one of its counters stood at."""


@dataclass(frozen=True)
class Grid:
    """Moments at which values are known: ``points`` of them, ``step`` seconds apart, from ``start``."""

    start: float
    """Seconds since 1970."""
    step: float
    points: int

    @property
    def seconds(self) -> int:
        """Length of time."""
        return round(self.step * self.points)

    def place(self, at: float) -> int | None:
        """Return the slot of a moment; None outside."""
        place = round((at - self.start) / self.step)
        return place if 0 <= place < self.points else None


@dataclass(frozen=True)
class Past:
    """One instance: its signals by name, each an array of ``grid.points`` values."""

    seen: Seen
    values: Mapping[str, Floats]
    there: Bools
    """Slots in which it was there."""

    @property
    def known(self) -> Bools:
        """Slots in which it told anything of its queue."""
        return np.isfinite(self.values["running"])


@dataclass(frozen=True)
class RolePast:
    """A role, over all of its instances. Rates per second; NaN where any of them is unknown."""

    role: Role
    count: Floats
    """Instances that are there."""
    values: Mapping[str, Floats]
    kv_usage: Floats
    """Highest of all."""
    gpu_types: tuple[str, ...]
    """Of its instances, the commonest first; empty where nobody says."""

    @property
    def work(self) -> Floats:
        """Tokens/s of its own work: computed prompt tokens, or generated ones."""
        if self.role is not Role.PREFILL:
            return self.values["generation_tokens"]
        computed = self.values["computed_prompt_tokens"]
        return computed if np.isfinite(computed).any() else self.values["prompt_tokens"]

    @property
    def load(self) -> Floats:
        """Work of one instance."""
        return ratio(self.work, self.count)

    def mean(self, latency: str) -> Floats:
        """Return the mean seconds of ``ttft`` (to the first token) or ``tbt`` (between tokens)."""
        return ratio(self.values[f"{latency}_sum"], self.values[f"{latency}_count"])


@dataclass(frozen=True)
class History:
    """All roles of a service over one grid."""

    grid: Grid
    roles: Mapping[Role, RolePast]
    instances: tuple[Past, ...]
    warnings: tuple[str, ...] = ()
    missing: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    """Signals that a role never told."""

    @property
    def known(self) -> Bools:
        """Slots in which every role's instances and work are known."""
        known = np.ones(self.grid.points, dtype=np.bool_)
        for role in self.roles.values():
            known &= np.isfinite(role.work) & (role.count > 0)
        return known


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return a quotient, NaN where there is nothing to divide by."""
    result: Floats = np.full(len(part), np.nan)
    np.divide(part, whole, out=result, where=np.isfinite(whole) & (whole > 0))
    return result


def fold(
    grid: Grid,
    instances: Sequence[Seen],
    answers: Mapping[str, Sequence[Matrix]],
    by: str,
) -> History:
    """Return the history that answers make: by signal, those of all its requests.

    A partial answer is left out whole. ``UP`` and ``STOOD`` may be among the signals: whether each
    instance was scraped, and what a counter of its stood at.
    """
    columns: dict[str, dict[str, Floats]] = {one.name: {} for one in instances}
    warnings: dict[str, None] = {}
    for signal, matrices in answers.items():
        for matrix in matrices:
            warnings |= dict.fromkeys(matrix.warnings)
            for labels, points in () if matrix.partial else matrix.series:
                if (name := labels.get(by, "")) not in columns:
                    continue
                column = columns[name].setdefault(signal, np.full(grid.points, np.nan))
                for at, value in points:
                    if (place := grid.place(at)) is not None:
                        column[place] = value
    tried = [np.isfinite(told[UP]) for told in columns.values() if UP in told]
    anyone = np.any(tried, axis=0) if tried else np.zeros(grid.points, dtype=np.bool_)
    pasts = tuple(_past(grid, one, columns[one.name], anyone) for one in instances)
    roles = {role: [p for p in pasts if p.seen.role is role] for role in Role}
    made = {role: _role(role, found) for role, found in roles.items() if found}
    missing = {
        role: tuple(name for name, values in past.values.items() if not np.isfinite(values).any())
        for role, past in made.items()
    }
    return History(grid, made, pasts, tuple(warnings), missing)


def _past(grid: Grid, seen: Seen, told: Mapping[str, Floats], anyone: Bools) -> Past:
    unknown = np.full(grid.points, np.nan)
    values = {name: told.get(name, unknown) for name in (*COUNTERS, *GAUGES)}
    stood = told.get(STOOD, unknown)
    if MAPPINGS[seen.engine].counters_appear_on_use:
        # No counter before the first request: with nothing in its queues it has done nothing.
        empty = (values["running"] == 0) & (values["waiting"] == 0)
        for name in COUNTERS:
            values[name] = np.where(empty & ~np.isfinite(values[name]), 0.0, values[name])
        stood = np.where(empty & ~np.isfinite(stood), 0.0, stood)
    scraped = Scraped(told.get(UP, unknown), anyone, stood)
    return Past(seen, values, there(np.isfinite(values["running"]), scraped, grid.step))


GAUGES = ("running", "waiting", "transferring", "kv_usage")


def _role(role: Role, pasts: Sequence[Past]) -> RolePast:
    count = np.sum([past.there for past in pasts], axis=0).astype(np.float64)
    sums = {name: _total(pasts, name, count) for name in (*COUNTERS, *GAUGES[:3])}
    usage = np.array([past.values["kv_usage"] for past in pasts])
    highest = np.max(np.where(np.isfinite(usage), usage, -1.0), axis=0)
    tally: dict[str, int] = {}
    for past in pasts:
        if past.seen.gpu_type:
            tally[past.seen.gpu_type] = tally.get(past.seen.gpu_type, 0) + 1
    types = tuple(sorted(tally, key=lambda name: (-tally[name], name)))
    count = np.where(count > 0, count, np.nan)
    return RolePast(role, count, sums, np.where(highest < 0, np.nan, highest), types)


def _total(pasts: Sequence[Past], name: str, count: Floats) -> Floats:
    """Return the sum over instances; unknown where one that is there does not tell."""
    total = np.zeros(len(count))
    for past in pasts:
        values, there = past.values[name], past.there
        if name in COUNTERS:
            values = _begun(values, there)
        total = total + np.where(there, values, 0.0)
    result: Floats = np.where(count > 0, total, np.nan)
    return result


def _begun(values: Floats, there: Bools) -> Floats:
    """Return a counter's rates, nothing in each slot in which its instance came and was scraped once.

    One that says nothing in the next slot either does not tell: it stays unknown.
    """
    came = there[1:-1] & ~there[:-2] & ~np.isfinite(values[1:-1]) & np.isfinite(values[2:])
    begun = values.copy()
    begun[1:-1][came] = 0.0
    return begun


def quantile(values: Floats, share: float, among: Bools | None = None) -> float | None:
    """Return a quantile of the known values; None when none is."""
    chosen = values[np.isfinite(values) & (True if among is None else among)]
    return float(np.quantile(chosen, share)) if len(chosen) else None
