"""The latency guard: a safety net under the demand law, with one tier.

A mean above the SLO's breach factor adds a step: a fraction of the in-service count *when the breach
began*, so that steps never compound. At most one for each start-up time (p90) plus window, none
while that much is still starting, and none beyond twice what served when it began. TTFT points to
prefill unless requests are seen to wait at decode; TBT points to decode. The ratio band and the
bounds hold.
"""

from __future__ import annotations

import math
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import Breach
from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import latency, ratio, signals
from heteroscale_coordinator.core.policy.grow import backoff, launch
from heteroscale_coordinator.core.policy.latency import Latency
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.stability import startup_p90

LEAST_STEPS = 3
"""Steps that a breach may take even where they more than double a small count."""


def guard(scene: Scene) -> Verdict | Held | None:
    """Add a step while latency is in breach; None when it is not."""
    breach, worst = scene.memory.breach, latency.worst_breach(scene.latencies, scene.spec)
    if breach is None or worst is None:
        return None
    role = leading_role(scene, worst)
    size = step_size(breach.counts.get(role, 0), scene.policy.guard.step)
    blocked = (
        _exhausted(scene, breach, role, size)
        or _pending(scene, role, size)
        or _too_soon(scene)
        or backoff(scene)
    )
    if blocked:
        return replace(blocked, reason=f"In breach: {worst.text}. {blocked.reason}")
    scene.inputs["guard"] = (
        f"{size} {role.value} = {scene.policy.guard.step:g} of the "
        f"{breach.counts.get(role, 0)} in service when the breach began, at least 1"
    )
    wish = {**scene.present, role: scene.present[role] + size}
    if role is Role.PREFILL:
        wish[Role.DECODE] = max(wish[Role.DECODE], ratio.decode_for(wish[role], scene.spec.ratio))
    breach = replace(breach, last_step_at=scene.now)
    done = replace(scene.memory, breach=breach, last_guard_at=scene.now)
    return launch(scene, wish, why=f"in breach: {worst.text}", bound_by="guard", done=done)


def step_size(count: int, share: float) -> int:
    """Return ``share`` of ``count``, rounded down, at least one."""
    return max(1, math.floor(count * share + 1e-9))


def leading_role(scene: Scene, worst: Latency) -> Role:
    """Return the role whose growth should mend the breach."""
    if worst.kind == "tbt" or Role.PREFILL not in scene.loads:
        return scene.spec.sizing_role
    prefill, decode = (_waiting(scene, role) for role in (Role.PREFILL, Role.DECODE))
    allowed = scene.policy.consent.queue_per_instance
    return Role.DECODE if decode > max(prefill, allowed) else Role.PREFILL


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


def _too_soon(scene: Scene) -> Held | None:
    """Return why the last addition, by guard, demand or reinstatement, must show its effect first."""
    memory = scene.memory
    steps = [at for at in (memory.last_guard_at, memory.last_out_at) if at is not None]
    wait = startup_p90(scene.memory, scene.policy) + scene.policy.window_out
    left = max(steps) + wait - scene.now if steps else 0.0
    if left <= 0:
        return None
    scene.inputs["guard_wait"] = f"{left:.0f} s left of start-up p90 + window = {wait:g} s"
    return Held("guard", "The last step is given its start-up time and a window to work.")
