"""What sizes a service that demand in tokens does not: signals in proportion, or latency alone.

Growth comes from the laws (``linear``) or from the guard; here stands what scale-in asks of the one
that drives. Consents, cooldowns, dampening and soft withdrawal are the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.policy import linear, ratio
from heteroscale_coordinator.core.policy.consent import Consent
from heteroscale_coordinator.core.policy.proportional import step_in
from heteroscale_coordinator.core.policy.scene import Held, Scene


def is_low(scene: Scene) -> bool:
    """Return whether what drives the service says that something may be spared."""
    return linear.is_low(scene)


def text(scene: Scene) -> str:
    """Return what drives the service, in words, at the head of a sentence."""
    if scene.policy.driver == "demand":
        return f"Demand is {scene.sizing.percent} of supply"
    return linear.text_of(scene)


def content(scene: Scene) -> Held:
    """Return why nothing is to be done."""
    if missing := linear.unknown(scene):
        return Held("coverage", f"Nobody tells {', '.join(missing)}.")
    policy = scene.policy
    out, low = 100 * (1 + policy.tolerance_out), 100 * (1 - policy.tolerance_in)
    band = f"out above {out:.0f} %, in below {low:.0f} % for {policy.window_in:g} s"
    return Held("signals", f"{linear.text_of(scene)} ({band}).")


def wish(scene: Scene, floors: Mapping[Role, int]) -> Counts | None:
    """Return the counts that one dampened step aims at, of roles that some floor speaks for.

    A role of which no signal tells follows the other by the ratio.
    """
    present, sizing = scene.present, scene.spec.sizing_role
    needed = floors.get(sizing, 0)
    if Role.PREFILL not in present:
        return {sizing: _step(scene, sizing, max(1, needed))}
    prefill = floors.get(Role.PREFILL, 0)
    if prefill:
        needed = max(needed, min(present[sizing], linear.decode_beside(scene, prefill)))
    decode = _step(scene, sizing, max(1, needed))
    aim = ratio.prefill_for(decode, prefill, scene.spec.ratio)
    best = ratio.prefill_for(decode, _step(scene, Role.PREFILL, aim), scene.spec.ratio)
    return {Role.PREFILL: min(best, present[Role.PREFILL]), sizing: decode}


def _step(scene: Scene, role: Role, needed: int) -> int:
    """Return the count after one step; what is still starting carries nothing, and is not spared."""
    present, carrying = scene.present[role], scene.loads[role].supply.carrying
    spared = max(0, carrying - needed)
    aim = max(needed, present - spared)
    return step_in(present, min(aim, present), scene.policy.dampening_in)


def carried_after(scene: Scene, after: Counts) -> list[Consent]:
    """Consent when what remains carries the highest use of every signal in the long window."""
    floor = linear.signal_floor(scene)
    if floor is None:
        return []
    return [
        Consent(f"remaining.{role.value}", after[role] >= least, f"{least} needed: {floor.why}")
        for role, least in floor.counts.items()
        if after[role] < scene.present[role]
    ]
