"""Negative feedback on latency: a safety net under what drives the service, or the driver (paper §3).

A mean above a tier's multiple of the SLO adds that tier's step: a fraction of the in-service count
*when the breach began*, so that steps never compound. At most one for each start-up time (p90) plus
window, none while that much is still starting, and none beyond twice what served when it began. A
breach that grows into a severer tier meanwhile adds the difference, as if it had been severe at once.
TTFT points to prefill unless requests are seen to wait at decode; TBT points to decode. The ratio band
and the bounds hold.
"""

from __future__ import annotations

import math
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import Breach
from heteroscale_coordinator.core.model import Counts, Verdict
from heteroscale_coordinator.core.policy import bounds, latency, ratio, signals
from heteroscale_coordinator.core.policy.grow import backoff, launch
from heteroscale_coordinator.core.policy.latency import Latency
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.stability import startup_p90
from heteroscale_coordinator.core.spec.latency import TierSpec

LEAST_STEPS = 3
"""Steps that a breach may take even where they more than double a small count."""


def guard(scene: Scene) -> Verdict | Held | None:
    """Add a step while latency is in breach; None when it is not."""
    breach, worst = scene.memory.breach, latency.worst_breach(scene.latencies, scene.spec)
    tier = scene.policy.guard.tier_of(worst.share or 0.0) if worst else None
    if breach is None or worst is None or tier is None:
        return None
    role = leading_role(scene, worst)
    size = _size(scene, breach, role, tier)
    given = _given(scene, breach, role)
    blocked = (
        _exhausted(scene, breach, role, size)
        or _pending(scene, role, size)
        or _too_soon(scene, escalates=0 < given < size)
        or backoff(scene)
    )
    if blocked:
        return replace(blocked, reason=f"In breach: {worst.text}. {blocked.reason}")
    pending = scene.view.pending()[role]
    more = int(
        scene.reckon(
            "guard_step",
            "size - max(given, pending)",
            role.value,
            size=size,
            given=given,
            pending=pending,
        )
    )
    wish = {**scene.present, role: scene.present[role] + more}
    if role is Role.PREFILL:
        wish[Role.DECODE] = max(wish[Role.DECODE], ratio.decode_for(wish[role], scene.spec.ratio))
    if not _helped(scene, role, wish):
        why = (
            f"In breach: {worst.text}. Maximum, GPU budget or ratio leave no room for {role.value}."
        )
        return Held("bounds", why)
    breach = replace(breach, last_step_at=scene.now)
    done = replace(scene.memory, breach=breach, last_guard_at=scene.now)
    which = f", above {tier.breach:g} ×" if len(scene.policy.guard.tiers) > 1 else ""
    why = f"in breach: {worst.text}{which}"
    found = launch(scene, wish, why=why, bound_by="guard", done=done)
    return _noted(found, breach, role, given) if isinstance(found, Verdict) else found


def _noted(found: Verdict, breach: Breach, role: Role, given: int) -> Verdict:
    """Return the verdict with what it adds noted, be it less than a step: bounds come before it."""
    breach = replace(breach, given={role: given + found.delta.get(role, 0)})
    return replace(found, done=replace(found.done, breach=breach))


def _helped(scene: Scene, role: Role, wish: Counts) -> bool:
    """Return whether anything of ``role`` would come; more of the other alone would mend nothing."""
    after = bounds.fit_out(scene.present, wish, scene.spec, scene.held)
    return after[role] > scene.present[role]


def step_size(count: int, share: float) -> int:
    """Return ``share`` of ``count``, rounded down, at least one."""
    return max(1, math.floor(count * share + 1e-9))


def _size(scene: Scene, breach: Breach, role: Role, tier: TierSpec) -> int:
    """Return what the tier's step adds, of what was in service when the breach began."""
    began = breach.counts.get(role, 0)
    scene.inputs["guard"] = (
        f"tier {tier.breach:g} ×: {step_size(began, tier.step)} {role.value} = {tier.step:g} of the "
        f"{began} in service when the breach began, at least 1"
    )
    formula = "max(1, floor(began * step + 1e-9))"
    return int(scene.reckon("guard_size", formula, role.value, began=began, step=tier.step))


def _given(scene: Scene, breach: Breach, role: Role) -> int:
    """Return what the present step has added of ``role``; 0 once it has had its time.

    A scale-out by something else since then is no part of it, and starts the time anew.
    """
    memory = scene.memory
    if breach.last_step_at is None or _wait_left(scene) <= 0:
        return 0
    since = [at for at in (memory.last_guard_at, memory.last_out_at) if at is not None]
    return breach.given.get(role, 0) if max(since) <= breach.last_step_at else 0


def leading_role(scene: Scene, worst: Latency) -> Role:
    """Return the role whose growth should mend the breach."""
    if worst.kind == "tbt" or Role.PREFILL not in scene.loads:
        return scene.spec.sizing_role
    prefill, decode = (_waiting(scene, role) for role in (Role.PREFILL, Role.DECODE))
    allowed = scene.policy.consent.queue_per_instance
    return Role.DECODE if decode > max(prefill, allowed) else Role.PREFILL


def strain(scene: Scene, role: Role) -> str:
    """Return why ``role`` is short by what requests feel, whatever demand says; nothing if it is not."""
    if role is Role.PREFILL and scene.choked:
        return scene.choked.why
    worst = latency.worst_breach(scene.latencies, scene.spec)
    if worst is not None and leading_role(scene, worst) is role:
        return f"in breach: {worst.text}"
    return ""


def _waiting(scene: Scene, role: Role) -> float:
    """Return the requests waiting for each instance; unknown points nowhere, so it is 0."""
    measure = signals.gauge_mean("waiting", scene.policy.window_out)
    total = signals.total(scene.signals.engines(role), measure) or 0.0
    return total / max(1, scene.signals.roles[role].carrying)


def _exhausted(scene: Scene, breach: Breach, role: Role, size: int) -> Held | None:
    """Return why more of the same would not help: the count has doubled and latency is no better.

    Few instances may take a few steps more than that. Demand goes on being followed.
    """
    began = breach.counts.get(role, 0)
    most = max(2 * began, began + LEAST_STEPS * size)
    if scene.present[role] + size <= most:
        return None
    scene.inputs["guard"] = f"{scene.present[role]} {role.value}, {began} when the breach began"
    return Held("guard", "What served when it began has doubled; more of the same does not help.")


def _pending(scene: Scene, role: Role, size: int) -> Held | None:
    pending = scene.view.pending()[role]
    if pending < size:
        return None
    scene.inputs["pending"] = f"{pending} {role.value} starting, a step is {size}"
    return Held("guard", f"As much {role.value} as a step adds is still starting.")


def _wait_left(scene: Scene) -> float:
    """Return the seconds that the last addition, by guard, demand or reinstatement, still has."""
    memory = scene.memory
    steps = [at for at in (memory.last_guard_at, memory.last_out_at) if at is not None]
    wait = startup_p90(scene.memory, scene.policy) + scene.policy.window_out
    return max(steps) + wait - scene.now if steps else 0.0


def _too_soon(scene: Scene, *, escalates: bool) -> Held | None:
    """Return why the last addition must show its effect first; the rest of a severer one need not."""
    left = _wait_left(scene)
    if left <= 0 or escalates:
        return None
    wait = startup_p90(scene.memory, scene.policy) + scene.policy.window_out
    scene.inputs["guard_wait"] = f"{left:.0f} s left of start-up p90 + window = {wait:g} s"
    return Held("guard", "The last step is given its start-up time and a window to work.")
