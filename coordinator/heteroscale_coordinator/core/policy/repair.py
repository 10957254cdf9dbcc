"""Repair: what is missing of the wanted counts is taken back, or launched. No cooldown applies."""

from __future__ import annotations

from dataclasses import replace

from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import bounds
from heteroscale_coordinator.core.policy.give import least_missing, told
from heteroscale_coordinator.core.policy.grow import waiting
from heteroscale_coordinator.core.policy.scene import Held, Scene, act
from heteroscale_coordinator.core.policy.view import written


def repair(scene: Scene) -> Verdict | Held | None:
    """Bring back what is missing: first what a soft scale-in took out, then by launching."""
    wanted, present = scene.memory.wanted, scene.present
    missing = {role: n - present[role] for role, n in wanted.items() if n > present[role]}
    if not missing:
        return None
    scene.inputs["missing"] = f"wanted {written(wanted)}, present {written(present)}"
    if scene.view.short is not None:
        least = least_missing(scene, missing)
        if not least:
            return told(scene.view.short, missing)
        missing = least
    returnable = scene.view.returnable()
    back = {role: min(n, returnable[role]) for role, n in missing.items() if returnable[role]}
    if back:
        reason = f"{written(missing)} missing of the wanted counts: {written(back)} taken back."
        return act(scene, Action.REINSTATE, back, bound_by="wanted", reason=reason)
    blocked = waiting(scene)
    if blocked:
        return Held(blocked.bound_by, f"{written(missing)} missing. {blocked.reason}")
    paid = bounds.afford(present, missing, scene.spec, scene.held)
    if not paid:
        why = "the GPU budget is held by instances on their way out"
        return Held("bounds", f"{written(missing)} missing, but {why}.")
    cause = _cause(scene, missing)
    bound_by, reason = "wanted", f"{cause} of the wanted counts: {written(paid)} launched."
    if cause != _missing(missing):
        bound_by, reason = "renewal", f"{cause}: {written(paid)} launched."
    found = act(scene, Action.REPAIR, paid, bound_by=bound_by, reason=reason)
    return replace(found, cause=cause)


def _cause(scene: Scene, missing: Counts) -> str:
    """Return why something is to be launched, in words: for successors, or for what is not there."""
    leaving = scene.view.leaving()
    succeeded = {role: min(n, leaving[role]) for role, n in missing.items() if leaving[role]}
    if not succeeded:
        return _missing(missing)
    said = f"{written(succeeded)} reach the end of their time, successors come first"
    gone = {role: n - succeeded.get(role, 0) for role, n in missing.items()}
    return f"{said}; {_missing(gone)}" if any(gone.values()) else said


def _missing(counts: Counts) -> str:
    return f"{written(counts)} missing"
