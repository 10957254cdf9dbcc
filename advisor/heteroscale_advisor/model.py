"""What one instance of a role can do, as its own history shows it. Nothing beyond that is claimed.

Load is tokens/s of an instance's own work, latency the mean over a slot. From many slots comes a
curve: how long tokens take at a load. It never falls, and ends at the highest load that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heteroscale.words import Role
from heteroscale_advisor.history import History, RolePast, quantile, ratio
from heteroscale_advisor.presence import Bools, Floats

BINS = 12
"""Points of a curve."""
KEPT = 0.99
"""Share of observations whose slots kept what stands for an SLO, where none is given."""
BUSY = 0.95
"""Quantile of the loads under which the SLO was kept, that one instance is sized by."""
FEWEST = 5
"""Slots that a figure needs."""


@dataclass(frozen=True)
class Promise:
    """An SLO of mean latency in seconds, and whether a person stated it."""

    seconds: float | None
    stated: bool


@dataclass(frozen=True)
class Latency:
    """How long tokens take at a load, and what was promised of it."""

    loads: Floats
    """Of the curve, rising."""
    seconds: Floats
    """Never falling; empty where latency is unknown."""
    promise: Promise

    def at(self, load: float) -> float | None:
        """Return the mean latency at a load, in seconds; None where it is unknown."""
        if not len(self.seconds):
            return None
        return float(np.interp(load, self.loads, self.seconds))

    def keeps(self, latency: float | None) -> bool:
        """Return whether a latency keeps the promise. None is promised: every latency does."""
        limit = self.promise.seconds
        return limit is None or latency is None or latency <= limit


@dataclass(frozen=True)
class RoleModel:
    """What was learned of a role."""

    role: Role
    target: float
    """Tokens/s to size by."""
    highest: float
    """Tokens/s that an instance was ever seen to do: it does no more here."""
    stated: bool
    """Whether ``target`` is a person's."""
    latencies: Mapping[str, Latency]
    """By name, those of ``history.LATENCIES``."""
    kv_per_request: float | None
    """KV usage for each running request."""


def latencies_of(models: Mapping[Role, RoleModel]) -> Mapping[str, tuple[Role, Latency]]:
    """Return ``ttft`` and ``tbt``, each with the role at which it comes about."""
    return {
        name: (role, latency)
        for role, model in models.items()
        for name, latency in model.latencies.items()
    }


def promise_of(past: RolePast, name: str, known: Bools, stated: float | None) -> Promise:
    """Return the SLO that a latency of a role is judged by: the stated one, else what it held itself.

    The latter is the least mean latency that the slots of 99 of 100 observations kept.
    """
    if stated is not None:
        return Promise(stated, stated=True)
    latency, weights = past.mean(name), past.values[f"{name}_count"]
    seen = known & np.isfinite(latency) & np.isfinite(weights) & (weights > 0)
    if not seen.any():
        return Promise(None, stated=False)
    order = np.argsort(latency[seen], kind="stable")
    sums = np.cumsum(weights[seen][order])
    place = int(np.searchsorted(sums, KEPT * sums[-1]))
    return Promise(float(latency[seen][order][place]), stated=False)


def learn(
    past: RolePast, known: Bools, promises: Mapping[str, Promise], target: float | None
) -> RoleModel:
    """Return what a role's history shows. ``target`` is the one that a person gives, if any.

    Raises:
        ValueError: it never did any work, and nobody says what an instance carries.

    """
    load = past.load
    busy = known & np.isfinite(load) & (load > 0)
    if target is None and int(busy.sum()) < FEWEST:
        raise ValueError(
            f"{past.role} did no work in all of the time that was asked for: take a longer --since, or "
            "say in a service file (-f) what an instance carries (`target`)"
        )
    highest = quantile(load, 1.0, busy) or 0.0
    kept = busy
    for name, promise in promises.items():
        if promise.seconds is not None:
            kept = kept & ~(past.mean(name) > promise.seconds)
    sized = target or quantile(load, BUSY, kept) or quantile(load, 0.05, busy) or highest
    return RoleModel(
        role=past.role,
        target=sized,
        highest=max(highest, sized),
        stated=target is not None,
        latencies={
            name: Latency(*_curve(load, past.mean(name), busy), promise)
            for name, promise in promises.items()
        },
        kv_per_request=quantile(
            ratio(past.kv_usage, ratio(past.values["running"], past.count)), 0.5, busy
        ),
    )


def wanted_ratio(history: History, models: Mapping[Role, RoleModel]) -> Floats:
    """Return prefill for each decode that the work of each slot asks for; nothing where they are one."""
    if Role.AGGREGATED in models:
        return np.full(history.grid.points, np.nan)
    prefill, decode = history.roles[Role.PREFILL], history.roles[Role.DECODE]
    needed = prefill.work / models[Role.PREFILL].target
    return ratio(needed, decode.work / models[Role.DECODE].target)


def held_ratio(history: History) -> Floats:
    """Return prefill for each decode that was there; nothing where they are one."""
    if Role.AGGREGATED in history.roles:
        return np.full(history.grid.points, np.nan)
    return ratio(history.roles[Role.PREFILL].count, history.roles[Role.DECODE].count)


def _curve(load: Floats, latency: Floats, busy: Bools) -> tuple[Floats, Floats]:
    both = busy & np.isfinite(latency)
    if not both.any():
        return np.zeros(0), np.zeros(0)
    order = np.argsort(load[both], kind="stable")
    x, y = load[both][order], latency[both][order]
    parts = np.array_split(np.arange(len(x)), min(BINS, len(x)))
    loads = np.array([float(np.median(x[part])) for part in parts])
    latencies = np.array([float(np.median(y[part])) for part in parts])
    return loads, np.maximum.accumulate(latencies)
