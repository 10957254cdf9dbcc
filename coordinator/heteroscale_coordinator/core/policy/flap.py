"""The flap guard: counts that go back and forth are given longer cooldowns, both ways, for a while.

A reversal is a change of the wanted counts by a law in the direction opposite to its last one, within
the window. What an operator, the clock or a shortage asks is none. A soft scale-in that is taken back is
none either (nothing was lost by it), but the next scale-in that follows soon is one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.stability import StabilityMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.spec import PolicySpec
from heteroscale_coordinator.core.spec.stability import FlapSpec
from heteroscale_coordinator.core.sums import Sum

KEPT = 16
"""Reversals remembered; by then every factor has long been at its limit."""
_DIRECTIONS: dict[Action, Literal["out", "in"]] = {
    Action.SCALE_OUT: "out",
    Action.REINSTATE: "out",
    Action.SCALE_IN: "in",
}
_NO_LAW = frozenset({"shortage", "schedule", "wanted"})


def recent(memory: StabilityMemory, flap: FlapSpec, now: float) -> int:
    """Return the reversals within the window."""
    return sum(now - at < flap.window for at in memory.reversals)


def factor_in(memory: PolicyMemory, policy: PolicySpec, now: float) -> Sum:
    """Return what ``cooldown_in`` is multiplied by: for reversals or for a wrong scale-in, the larger."""
    return _factor(memory, policy, now, policy.stability.flap.most_in, memory.cooldown_in_factor)


def factor_out(memory: PolicyMemory, policy: PolicySpec, now: float) -> Sum:
    """Return what ``cooldown_out`` is multiplied by."""
    return _factor(memory, policy, now, policy.stability.flap.most_out, 1.0)


def _factor(
    memory: PolicyMemory, policy: PolicySpec, now: float, most: float, penalty: float
) -> Sum:
    flap = policy.stability.flap
    return sums.reckon(
        "max(penalty, min(most, power(growth, max(0, reversals - allowed))))",
        penalty=penalty,
        most=most,
        growth=flap.growth,
        reversals=recent(memory.stability, flap, now),
        allowed=flap.allowed,
    )


def noted(verdict: Verdict, policy: PolicySpec, now: float) -> Verdict:
    """Return the verdict with its direction remembered, once it is carried out."""
    direction = _DIRECTIONS.get(verdict.action)
    own = verdict.done.wanted != verdict.memory.wanted and verdict.bound_by not in _NO_LAW
    if direction is None or not own:
        return verdict
    memory, flap = verdict.done.stability, policy.stability.flap
    soon = memory.changed_at is not None and now - memory.changed_at < flap.window
    turned = soon and memory.direction not in ("", direction)
    after = replace(memory, direction=direction, changed_at=now)
    if turned and verdict.action is not Action.REINSTATE:
        kept = [at for at in memory.reversals if now - at < flap.window]
        after = replace(
            after,
            reversals=(*kept, now)[-KEPT:],
            reversal_count=memory.reversal_count + 1,
        )
    return replace(verdict, done=replace(verdict.done, stability=after))
