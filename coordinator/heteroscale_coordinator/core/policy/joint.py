"""The joint law: the order of its stages, and what each hands on."""

from __future__ import annotations

from dataclasses import replace

from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import bounds
from heteroscale_coordinator.core.policy.view import ServiceView, written


def decide(view: ServiceView) -> Verdict:
    """Return what to do with the service now."""
    memory = view.memory
    if not view.covered and not view.launch_only:
        return Verdict(Action.HOLD, "covering", "coverage", memory, memory)
    wanted = bounds.clamp(memory.wanted or bounds.starting_counts(view.spec), view.spec)
    memory = replace(memory, wanted=wanted)
    present = view.present()
    missing = {role: n - present[role] for role, n in wanted.items() if n > present[role]}
    if missing and view.now >= memory.launch_after and not view.partition:
        reason = f"{written(missing)} missing of the wanted counts: launched."
        return Verdict(Action.REPAIR, reason, "wanted", memory, memory, missing)
    return Verdict(Action.HOLD, "Nothing to do.", "demand", memory, memory)
