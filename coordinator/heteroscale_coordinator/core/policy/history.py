"""Demand as it was, slot by slot: what the forecast learns from.

A slot is written once, when it is over, so that a service that holds is not stored each tick. What
was not heard is a hole: a partition, low coverage, a coordinator that was down. Backlog is left
out: it is the past's shortage, not what is to come.
"""

from __future__ import annotations

import math
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.forecast import ForecastMemory, History, Slots
from heteroscale_coordinator.core.policy.backtest import (
    MODELS,
    Horizon,
    outlook,
    retired,
)
from heteroscale_coordinator.core.policy.demand import demand_on
from heteroscale_coordinator.core.policy.scene import Scene
from heteroscale_coordinator.core.policy.season import learned, leaving
from heteroscale_coordinator.core.policy.stability import startup_p90

SLOT = 60.0
"""Seconds. Shorter ones hold chance; longer ones are late."""
KEPT = 180
"""Slots of past: three hours."""
LEAST_HEARD = 0.9
"""Share of a role's engines heard, below which its demand is not known well enough to learn from."""
DIGITS = 4
"""Of a figure that is kept."""


def slot_at(scene: Scene) -> int:
    """Return the number of the newest slot that is over; each service has its own beat."""
    beat = sum(scene.view.name.encode()) % SLOT
    return int((scene.now - beat) // SLOT) - 1


def recorded(scene: Scene, *, heard: bool) -> ForecastMemory:
    """Return the memory with the slots that are over by now; the same one inside a slot."""
    kept, newest = scene.memory.forecast, slot_at(scene)
    if kept.slot == newest:
        return kept
    # A clock that was set back makes no second past: the series goes on where it is.
    passed = max(1, newest - kept.slot) if kept.slot is not None else 1
    roles = {}
    for role in scene.leading_roles:
        history = _added(scene, role, kept.roles.get(role, History()), passed, heard)
        roles[role] = _judged(scene, history, newest)
    return ForecastMemory(newest, roles)


def _added(scene: Scene, role: Role, old: History, passed: int, heard: bool) -> History:
    mean = peak = None
    if heard and scene.signals.roles[role].coverage >= LEAST_HEARD:
        mean, peak = _mean(scene, role), _peak(scene, role)
    return replace(
        old, means=_pushed(old.means, passed, mean), peaks=_pushed(old.peaks, passed, peak)
    )


def _pushed(slots: Slots, passed: int, value: float | None) -> Slots:
    kept = None if value is None else float(f"{value:.{DIGITS}g}")
    if passed > KEPT:
        return (kept,)
    return (*slots, *(None,) * (passed - 1), kept)


def _mean(scene: Scene, role: Role) -> float | None:
    return _demand(scene, role, SLOT, 0.0)


def _peak(scene: Scene, role: Role) -> float | None:
    length = min(scene.policy.window_out, SLOT)
    count = max(1, int(SLOT / length))
    known = [_demand(scene, role, length, i * length) for i in range(count)]
    return max((value for value in known if value is not None), default=None)


def _demand(scene: Scene, role: Role, length: float, offset: float) -> float | None:
    engines = {name: scene.signals.engines(name) for name in scene.loads}
    return demand_on(role, engines, scene.spec, length=length, offset=offset).lasting


def horizons(scene: Scene) -> tuple[Horizon, Horizon]:
    """Return how far is looked ahead before a launch, and before a withdrawal.

    One slot more than it takes: what is foreseen now stands until the next slot is over.
    """
    policy = scene.policy
    start = startup_p90(scene.memory, policy) + policy.window_out
    each = (start, start + policy.observation)
    out, stay = (1 + math.ceil(seconds / SLOT - 1e-9) for seconds in each)
    quantile = policy.forecast.quantile
    return Horizon("out", out, quantile), Horizon("stay", stay, quantile)


def _judged(scene: Scene, history: History, newest: int) -> History:
    names = (*MODELS, *scene.policy.forecast.seasons)
    both = horizons(scene)
    while count := leaving(history, newest, KEPT):
        held = retired(history, newest, count, both, names)
        history = learned(replace(history, held=held), newest, count)
    out, stay = (outlook(history, newest, each, names) for each in both)
    return replace(history, out=out, stay=stay)
