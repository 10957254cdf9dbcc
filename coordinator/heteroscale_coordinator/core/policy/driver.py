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
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.steps import step_in


def is_low(scene: Scene) -> bool:
    """Return whether what drives the service says that something may be spared.

    Latency does when every promise is known to be kept by far, and no breach is being mended.
    """
    if scene.policy.driver == "signals":
        return linear.is_low(scene)
    below, shares = scene.policy.guard.below, [one.share for one in scene.latencies]
    return scene.memory.breach is None and all(
        share is not None and share < below for share in shares
    )


def text(scene: Scene) -> str:
    """Return what drives the service, in words, at the head of a sentence."""
    if scene.policy.driver == "demand":
        return f"Demand is {scene.sizing.percent} of supply"
    if scene.policy.driver == "latency":
        return f"Latency: {', '.join(one.text for one in scene.latencies)}"
    return linear.text_of(scene)


def content(scene: Scene) -> Held:
    """Return why nothing is to be done."""
    if scene.policy.driver == "latency":
        return _content_with_latency(scene)
    if missing := linear.unknown(scene):
        return Held("coverage", f"Nobody tells {', '.join(missing)}.")
    policy = scene.policy
    out, low = 100 * (1 + policy.tolerance_out), 100 * (1 - policy.tolerance_in)
    band = f"out above {out:.0f} %, in below {low:.0f} % for {policy.window_in:g} s"
    return Held("signals", f"{linear.text_of(scene)} ({band}).")


def _content_with_latency(scene: Scene) -> Held:
    unknown = [one.kind for one in scene.latencies if one.share is None]
    if unknown:
        return Held("coverage", f"Nobody tells {' and '.join(unknown)}.")
    rules = scene.policy.guard
    band = f"out above {rules.tiers[0].breach:g} × the SLO, in below {rules.below:g} ×"
    return Held("latency", f"{text(scene)} ({band} for {scene.policy.window_in:g} s).")


def wish(scene: Scene, floors: Mapping[Role, int]) -> Counts | None:
    """Return the counts that one dampened step aims at, of roles that some floor speaks for.

    A role of which no signal tells follows the other by the ratio.
    """
    if scene.policy.driver == "latency":
        return _a_little_less(scene, floors)
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


def _a_little_less(scene: Scene, floors: Mapping[Role, int]) -> Counts:
    """Return the counts after latency's own step in: a fraction of what serves, at least one."""
    share, serving, present = scene.policy.guard.step_in, scene.view.in_service(), scene.present
    after = {}
    for role, n in present.items():
        formula = "max(1, floor(serving * share + 1e-9))"
        less = scene.reckon(
            f"step_in_{role.value}", formula, role.value, serving=serving[role], share=share
        )
        after[role] = max(1, floors.get(role, 0), n - int(less))
        after[role] = min(after[role], n)
    if Role.PREFILL in after:
        best = ratio.prefill_for(
            after[scene.spec.sizing_role], after[Role.PREFILL], scene.spec.ratio
        )
        after[Role.PREFILL] = min(best, present[Role.PREFILL])
    return after


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
        return []  # latency drives: how much less would do cannot be told, and is tried by steps
    return [
        Consent(f"remaining.{role.value}", after[role] >= least, f"{least} needed: {floor.why}")
        for role, least in floor.counts.items()
        if after[role] < scene.present[role]
    ]
