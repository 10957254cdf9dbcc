"""The ready-ratio guard: prefill and decode of one step go into service together (paper, §3).

Instances of one step become Ready out of order. While Ready prefill ÷ decode would stray from the
ratio by more than the tolerance, new instances of the role that is *not* short wait (`ratio_hold`):
Ready, out of the routers, until the other role has caught up, or their deadline.

Nobody who serves is ever withdrawn for it, only who was launched to wait waits. A role waits for
those launched with it and no longer: once none of them is still starting (all serve, or failed), it
goes in. It goes in at once when it is short itself, when its own demand is unknown, and when less
of it serves than its minimum. Where prefill is split, attention waits for its ffn too, even when it is
short: without ffn it serves nobody. Ffn itself never waits, for nobody sends it requests.
"""

from __future__ import annotations

import math
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.policy.guard import strain
from heteroscale_coordinator.core.policy.laws import need_of
from heteroscale_coordinator.core.policy.scene import Held, Scene, act
from heteroscale_coordinator.core.policy.view import Member, written

PAIR = (Role.PREFILL, Role.DECODE)
_SLACK = 1e-9


def with_hold(scene: Scene, verdict: Verdict) -> Verdict:
    """Return ``verdict`` with how many of each role's new instances wait once they are Ready.

    Only a step of both roles has anybody to wait for.
    """
    rules, launching = scene.policy.ratio_guard, verdict.action in (Action.SCALE_OUT, Action.REPAIR)
    if not (launching and rules.hold and rules.deadline > 0):
        return verdict
    awaited = {role: _partners(scene, role, verdict.delta) for role in PAIR}
    waiting = {
        role: max(
            (_to_hold(scene, role, other, verdict.delta[role]) for other in others), default=0
        )
        for role, others in awaited.items()
    }
    waiting = {role: n for role, n in waiting.items() if n}
    if not waiting:
        return verdict
    names = dict.fromkeys(other.value for role in waiting for other in awaited[role])
    text = (
        f"{written(waiting)} wait once Ready, at most {rules.deadline:g} s, until "
        f"{' and '.join(names)} of this step serves"
    )
    inputs = {**verdict.inputs, "ratio_hold": text}
    return replace(verdict, inputs=inputs, hold=waiting, hold_for=rules.deadline)


def _partners(scene: Scene, role: Role, delta: Counts | None = None) -> list[Role]:
    """Return whom a role may have to wait for; of a step ``delta``, those that are launched with it."""
    others = [_other(role)]
    if role is Role.PREFILL and scene.spec.split:
        others.insert(0, Role.FFN)
    if delta is None:
        return others
    return [one for one in others if delta.get(role, 0) > 0 and delta.get(one, 0) > 0]


def _to_hold(scene: Scene, role: Role, other: Role, more: int) -> int:
    """Return how many of ``more`` new instances would break the tolerance if they came first."""
    serving = scene.view.in_service()
    if serving[role] < max(1, scene.spec.roles[role].min) or _pressing(scene, role, other):
        return 0
    return max(0, more - max(0, _room(scene, role, other)))


def release(scene: Scene) -> Verdict | Held | None:
    """Let into service those whose wait is over; None when nobody waits, or all go on waiting."""
    held = {
        role: [m for m in scene.view.members if m.held and m.instance.role is role] for role in PAIR
    }
    going: dict[Role, int] = {}
    reasons: list[str] = []
    for role in PAIR:
        if role not in scene.loads or not held[role]:
            continue
        count, why = _leaving(scene, role, held[role])
        if count:
            going[role] = count
            reasons.append(f"{count} {role.value} held for the ratio go into service: {why}")
        else:
            scene.inputs["ratio_hold"] = f"{len(held[role])} {role.value} wait, Ready: {why}"
    if not going:
        return None
    return act(scene, Action.RELEASE, going, bound_by="ratio_hold", reason="; ".join(reasons) + ".")


def _leaving(scene: Scene, role: Role, held: list[Member]) -> tuple[int, str]:
    """Return how many of those ``held`` may serve now, and why so many; 0 with why they wait."""
    answers = [_beside(scene, role, other, held) for other in _partners(scene, role)]
    return min(answers, key=lambda answer: answer[0])


def _beside(scene: Scene, role: Role, other: Role, held: list[Member]) -> tuple[int, str]:
    """Return how many of those ``held`` may serve beside what serves of ``other``, and why."""
    rules, serving = scene.policy.ratio_guard, scene.view.in_service()
    if why := _why_all(scene, role, other, held):
        return len(held), why
    late = sum(scene.now - m.instance.changed_at >= rules.deadline for m in held)
    if late:
        return late, f"the deadline of {rules.deadline:g} s is over"
    room = _room(scene, role, other)
    pair = [one for one in (*PAIR, Role.FFN) if one in (role, other)]
    state = f"Ready {', '.join(f'{serving[one]} {one.value}' for one in pair)}"
    if room <= 0:
        return 0, f"{state}; {_awaited(other, held, scene)} {other.value} of its step start"
    return min(room, len(held)), f"{state} keep within {rules.tolerance:g} of the ratio with it"


def _why_all(scene: Scene, role: Role, other: Role, held: list[Member]) -> str:
    """Return why all those ``held`` are to serve now; nothing when it goes by the ratio."""
    serving = scene.view.in_service()[role]
    if not scene.policy.ratio_guard.hold:
        return "the guard is switched off"
    if serving < max(1, scene.spec.roles[role].min):
        return f"only {serving} of it serve"
    if why := _pressing(scene, role, other):
        return why
    nobody = not _awaited(other, held, scene)
    return f"no {other.value} of its step is still starting" if nobody else ""


def _pressing(scene: Scene, role: Role, other: Role) -> str:
    """Return why a role may not be kept waiting for ``other``; for its ffn it always may."""
    return "" if other is Role.FFN else why_at_once(scene, role)


def _awaited(other: Role, held: list[Member], scene: Scene) -> int:
    """Return how many of the other role, launched no later than those held, are still starting."""
    newest = max(m.instance.created_at for m in held)
    return sum(
        m.starting and not m.held
        for m in scene.view.members
        if m.instance.role is other and m.instance.created_at <= newest
    )


def why_at_once(scene: Scene, role: Role) -> str:
    """Return why a role of the pair may not be kept waiting; nothing when it has to spare."""
    load = scene.loads[role]
    serving = sum(e.target for e in scene.signals.engines(role) if e.carrying)
    if load.demand.value is None:
        return f"demand on {role.value} is unknown"
    if load.demand.value > serving:
        return f"{role.value} is short: {load.demand.value:.0f} of {serving:.0f} tok/s that serve"
    if felt := strain(scene, role):
        return felt
    need = need_of(scene)
    if need is not None and need.counts.get(role, 0) > scene.present[role]:
        return need.why
    return ""


def _room(scene: Scene, role: Role, other: Role) -> int:
    """Return how many more of ``role`` may serve beside what serves of the other, within tolerance."""
    serving, band = scene.view.in_service(), scene.spec.ratio
    tolerance = scene.policy.ratio_guard.tolerance
    if other is Role.FFN:
        band = scene.spec.inner_ratio or band
    if role is Role.PREFILL:
        beside = serving[other]
        most = math.floor(band.max * (1 + tolerance) * beside + _SLACK)
        # What the ratio's own rounding allows is no stray.
        return max(most, ratio.prefill_limits(beside, band).low) - serving[role]
    fewest = band.min * (1 - tolerance)
    return math.floor(serving[Role.PREFILL] / fewest + _SLACK) - serving[role]


def _other(role: Role) -> Role:
    return Role.DECODE if role is Role.PREFILL else Role.PREFILL
