"""Role switch: one running instance changes sides, instead of a launch and a withdrawal.

Where one role is short by the laws and the other has some to spare by the same laws, and by every
consent of its own, an engine that can is told to change its role: in seconds, and on no more GPUs.
One at a time, with a cooldown of its own, inside the bounds and the ratio's band. What it does not
cover is launched as ever, and so is all of it where no switch is possible.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import consent, ratio
from heteroscale_coordinator.core.policy.demand import peak_demand
from heteroscale_coordinator.core.policy.guard import strain
from heteroscale_coordinator.core.policy.laws import floors_of, need_of
from heteroscale_coordinator.core.policy.proportional import needed_in
from heteroscale_coordinator.core.policy.scene import Scene, act

PAIR = (Role.PREFILL, Role.DECODE)


def switch_role(scene: Scene) -> Verdict | None:
    """Return the switch of one instance to the role that is short; None with the reason told."""
    if not scene.policy.ratio_guard.switch_roles or Role.PREFILL not in scene.loads:
        return None
    need = need_of(scene)
    short = [r for r in PAIR if need and need.counts.get(r, 0) > scene.present[r]]
    if need is None or len(short) != 1:
        return None
    gaining = short[0]
    giving = Role.DECODE if gaining is Role.PREFILL else Role.PREFILL
    why_not = _waits(scene) or _bound(scene, giving, gaining) or _needed_itself(scene, giving)
    if why_not:
        scene.inputs["switch_role"] = f"no {giving.value} to {gaining.value}: {why_not}"
        return None
    wanted = dict(scene.memory.wanted)
    wanted[giving] -= 1
    wanted[gaining] += 1
    memory = replace(scene.memory.ratio, switched_at=scene.now)
    done = replace(scene.memory, wanted=wanted, ratio=memory, last_in_at=scene.now)
    return act(
        scene,
        Action.SWITCH_ROLE,
        {gaining: 1, giving: -1},
        bound_by="ratio",
        reason=f"{need.why}; {giving.value} has one to spare, which becomes {gaining.value}.",
        done=done,
    )


def _waits(scene: Scene) -> str:
    """Return why no role is switched just now."""
    memory, rules = scene.memory, scene.policy.ratio_guard
    last = memory.ratio.switched_at
    left = 0.0 if last is None else last + rules.switch_cooldown - scene.now
    left = max(left, memory.ratio.switch_after - scene.now)
    if left > 0:
        failed = memory.ratio.switch_failures
        return f"{left:.0f} s left of its cooldown" + f", after {failed} failed" * bool(failed)
    if memory.soft is not None:
        return "a scale-in is watched"
    return ""


def _bound(scene: Scene, giving: Role, gaining: Role) -> str:
    """Return which bound or fact forbids it."""
    spec, present, serving = scene.spec, scene.present, scene.view.serving()
    shapes = {(rules.gpus, rules.ranks) for rules in spec.roles.values()}
    if len(shapes) > 1 or spec.roles[giving].ranks > 1:
        return "the roles differ in GPUs, or have several ranks"
    if not any(m.switchable and m.instance.role is giving for m in scene.view.members):
        return "none can"
    if present[gaining] >= spec.roles[gaining].max:
        return f"{gaining.value} is at its maximum"
    counts = (serving[giving], present[giving], scene.memory.wanted.get(giving, 0))
    if min(counts) <= max(1, spec.roles[giving].min):
        return f"{giving.value} is at its minimum"
    after = {giving: present[giving] - 1, gaining: present[gaining] + 1}
    pairs = [(counts[Role.PREFILL], counts[Role.DECODE]) for counts in (present, after)]
    return "" if ratio.permitted(pairs[0], pairs[1], spec.ratio) else "the ratio does not permit it"


def _needed_itself(scene: Scene, giving: Role) -> str:
    """Return why the role that would give one up needs all it has."""
    present, load = scene.present[giving], scene.loads[giving]
    engines = {role: scene.signals.engines(role) for role in scene.loads}
    peak = peak_demand(engines, scene.view, giving)
    if peak.value is None:
        return f"the highest demand on {giving.value} is unknown"
    found = needed_in(peak.value, load.supply, scene.policy.tolerance_in, "to keep its role")
    needed = int(scene.keep(f"needed_switch_{giving.value}", found))
    needed = max(needed, floors_of(scene).get(giving, 0))
    if present - 1 < needed:
        return f"{giving.value} needs {needed} of {present}"
    if felt := strain(scene, giving):
        return felt
    own = [c for c in consent.safety(scene) if c.name in _own(giving)]
    refused = [f"{c.name} ({c.text})" for c in own if not c.given]
    return f"{', '.join(refused)} does not consent" if refused else ""


def _own(role: Role) -> set[str]:
    """Return the consents that speak of one role."""
    names = {f"{what}.{role.value}" for what in ("coverage", "queues", "arrivals", "aborts")}
    return names | {"kv_usage"} if role is Role.DECODE else names
