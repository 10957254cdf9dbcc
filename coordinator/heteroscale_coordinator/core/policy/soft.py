"""A soft scale-in under observation: take it back, or finish it.

Taken back without penalty when demand outgrows what remains; with a longer next cooldown when
latency broke or requests piled up at a demand that did not rise, for then the scale-in was wrong.
Finished when, after the observation, what remains would carry the highest demand seen and latency
is healthy. Unknown finishes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import bounds, driver, latency, linear
from heteroscale_coordinator.core.policy.claims import Need
from heteroscale_coordinator.core.policy.grow import room_for, wanted_with
from heteroscale_coordinator.core.policy.laws import need_of
from heteroscale_coordinator.core.policy.scene import Held, Scene, act
from heteroscale_coordinator.core.policy.stability import MAX_COOLDOWN_FACTOR
from heteroscale_coordinator.core.policy.view import Short, written

LANDING = 60.0
"""Seconds given to the commands of a step to arrive, before it is asked for again or given up."""


def rescue(scene: Scene) -> Verdict | None:
    """Take back what is on its way out of a role of which nothing is known to be in service.

    Nothing need be heard for that. What is still starting takes no place of it: who comes too late
    leaves again. Those who are silent may be serving, and count against the maximum.
    """
    view, wanted = scene.view, scene.memory.wanted
    serving, carrying = view.serving(), view.in_service()
    back = {}
    for role, n in view.returnable().items():
        room = scene.spec.roles[role].max - carrying[role]
        if n and room > 0 and not serving[role]:
            back[role] = min(n, room, max(1, wanted.get(role, 1)))
    if not back:
        return None
    names = " and ".join(role.value for role in back)
    reason = f"nothing of {names} is known to be in service: {written(back)} taken back."
    return act(scene, Action.REINSTATE, back, bound_by="wanted", reason=reason)


def watch(scene: Scene) -> Verdict | Held | None:
    """Watch the soft scale-in; None when there is none, or nothing of it is withdrawn (yet)."""
    soft, withdrawn = scene.memory.soft, scene.view.withdrawn()
    if soft is None or not any(withdrawn.values()):
        return None
    if scene.view.short is not None:
        return _hand_over(scene, soft, withdrawn, scene.view.short)
    back = _take_back(scene, soft, withdrawn)
    if isinstance(back, Verdict):
        return back
    if scene.now >= soft.until and not (scene.view.partition or scene.view.launch_only):
        return _conclude(scene, soft, withdrawn, back)
    left = max(0.0, soft.until - scene.now)
    scene.inputs["observation"] = f"{left:.0f} s left, since {scene.now - soft.at:.0f} s"
    return back or Held(
        "observation",
        f"{written(withdrawn)} withdrawn and watched; {_remains(scene)}.",
    )


def _remains(scene: Scene) -> str:
    """Return how what remains carries the load, by what drives the service."""
    if scene.policy.driver == "demand":
        return f"demand is {scene.sizing.percent} of what remains"
    text = driver.text(scene)
    return text[:1].lower() + text[1:]


def _hand_over(
    scene: Scene, soft: SoftScaleIn, withdrawn: Mapping[Role, int], short: Short
) -> Verdict | Held:
    """Drain soon what is withdrawn while a higher service lacks GPUs; nothing of it comes back."""
    left = min(soft.until, soft.at + scene.policy.shortage.observation) - scene.now
    if left > 0 or scene.view.partition or scene.view.launch_only:
        why = f"{written(withdrawn)} withdrawn for {short.to}, drained in {max(0.0, left):.0f} s."
        return Held("shortage", why)
    found = _finish(scene, soft, withdrawn, f"{short.to} needs the GPUs")
    # Neither success nor failure of a scale-in: what it says of the next one stays.
    factor = scene.memory.cooldown_in_factor
    landing = replace(found.done.soft or soft, gpus=0)
    done = replace(found.done, soft=landing, cooldown_in_factor=factor)
    return replace(found, bound_by="shortage", done=done)


def settle(scene: Scene) -> Verdict | Held | None:
    """Watch a soft scale-in to counts that are given: nothing need be heard, for nothing may return."""
    soft, withdrawn = scene.memory.soft, scene.view.withdrawn()
    if soft is None or not any(withdrawn.values()) or not _counts_given(scene, withdrawn):
        return None
    left = soft.until - scene.now
    if left > 0:
        return Held("observation", f"{written(withdrawn)} withdrawn, drained in {left:.0f} s.")
    return _finish(scene, soft, withdrawn, "the schedule gives the counts")


def _counts_given(scene: Scene, withdrawn: Mapping[Role, int]) -> bool:
    """Return whether the schedule leaves no room for any of what is withdrawn, whatever is heard."""
    plan = scene.view.plan
    return (
        plan is not None
        and all(plan.given(role) for role, n in withdrawn.items() if n)
        and not room_for(scene, withdrawn)
    )


def _take_back(
    scene: Scene, soft: SoftScaleIn, withdrawn: Mapping[Role, int]
) -> Verdict | Held | None:
    need = need_of(scene)
    worst = latency.worst_breach(scene.latencies, scene.spec)
    if need is None and worst is None:
        return None
    rising = _rising(scene, soft)
    # What is expected to rise is no fault of the scale-in, and neither is what did rise.
    foreseen = worst is None and need is not None and need.bound_by in ("reserve", "forecast")
    why = need.why if need else f"in breach: {worst.text}" if worst else ""
    how = "demand rose" if rising else "demand did not rise"
    asked = withdrawn if need is None or worst else _asked_back(scene, need, withdrawn)
    if not any(asked.values()):
        return None  # the other role is short, and the band lets it grow alone
    return _reinstate(scene, asked, f"{why}; {how}", penalty=not (rising or foreseen))


def _asked_back(scene: Scene, need: Need, withdrawn: Mapping[Role, int]) -> Mapping[Role, int]:
    """Return what the need asks for of those withdrawn, inside the ratio; the others are watched on."""
    present, spec = scene.present, scene.spec
    after = bounds.fit_out(present, need.counts, spec, scene.held - bounds.gpus(withdrawn, spec))
    if not any(n > present[role] for role, n in after.items()):
        return withdrawn  # the bounds leave no room, and are named for it
    return {role: min(n, max(0, after[role] - present[role])) for role, n in withdrawn.items()}


def _rising(scene: Scene, soft: SoftScaleIn) -> bool:
    """Return whether more is asked for than at the withdrawal; a backlog that it caused is no rise.

    By the signals, where they drive: tokens are not what such a service was sized by. Where latency
    drives, tokens are the witness: latency itself may be what the scale-in did. What was unknown at the
    withdrawal, or is now, shows no rise.
    """
    if soft.signals:
        used, most = linear.used(scene), 1 + scene.policy.tolerance_out
        return any(used.get(name, 0.0) > n * most for name, n in soft.signals.items())
    before = {scene.spec.sizing_role: soft.demand}
    if scene.prefill_leads:
        before[Role.PREFILL] = soft.prefill
    now = {role: scene.loads[role].demand.lasting for role in before}
    limit = 1 + scene.policy.tolerance_out
    return any(
        asked is not None and (now[role] or 0.0) > asked * limit for role, asked in before.items()
    )


def _reinstate(
    scene: Scene, withdrawn: Mapping[Role, int], why: str, *, penalty: bool
) -> Verdict | Held:
    back = room_for(scene, withdrawn)
    if not back:
        return Held("bounds", f"{why}: the bounds leave no room to take anything back.")
    memory = scene.memory
    factor = memory.cooldown_in_factor * (2 if penalty else 1)
    done = replace(
        memory,
        wanted=wanted_with(scene, back),
        soft=memory.soft if _left(scene, back) else None,
        cooldown_in_factor=min(MAX_COOLDOWN_FACTOR, factor),
        low_since=None,
        last_guard_at=scene.now if memory.breach else memory.last_guard_at,
    )
    bound = "observation" if penalty else "demand"
    reason = f"{why}: {written(back)} taken back into service."
    return act(scene, Action.REINSTATE, back, bound_by=bound, reason=reason, done=done)


def _left(scene: Scene, back: Mapping[Role, int]) -> bool:
    """Return whether any stay withdrawn when these are taken back."""
    return any(n > back.get(role, 0) for role, n in scene.view.withdrawn().items())


def _conclude(
    scene: Scene, soft: SoftScaleIn, withdrawn: Mapping[Role, int], stuck: Held | None
) -> Verdict | Held:
    total, peak = scene.sizing.supply.total, soft.peak
    scene.inputs["R_peak"] = f"{peak:.1f} ÷ {total:.1f} at the highest demand seen"
    if stuck is not None:
        return _finish(scene, soft, withdrawn, f"{stuck.reason} The bounds win")
    if _counts_given(scene, withdrawn):
        return _finish(scene, soft, withdrawn, "the schedule gives the counts")
    shares = [one.share for one in scene.latencies]
    blind = scene.policy.driver == "demand" and scene.sizing.ratio is None
    if blind or any(share is None for share in shares):
        return Held("observation", "Observation is over, but latency or demand is unknown.")
    if any(share > 1.0 for share in shares if share is not None):
        back = _reinstate(scene, withdrawn, "an SLO is missed with what remains", penalty=True)
        return back if isinstance(back, Verdict) else _finish(scene, soft, withdrawn, back.reason)
    demanded = scene.policy.driver == "demand"
    if demanded and peak > (1 + scene.policy.tolerance_out) * total:
        back = _reinstate(scene, withdrawn, "what remains would not carry the peak", penalty=False)
        return back if isinstance(back, Verdict) else _finish(scene, soft, withdrawn, back.reason)
    lasted = scene.now - soft.at
    return _finish(scene, soft, withdrawn, f"watched for {lasted:.0f} s, the rest carries the load")


def _finish(scene: Scene, soft: SoftScaleIn, withdrawn: Mapping[Role, int], why: str) -> Verdict:
    """Drain what is withdrawn; asked again after a while if some of it is still only withdrawn."""
    memory: PolicyMemory = scene.memory
    done = replace(
        memory,
        soft=replace(soft, until=scene.now + LANDING),
        cooldown_in_factor=max(1.0, memory.cooldown_in_factor / 2),
    )
    delta = {role: n for role, n in withdrawn.items() if n}
    reason = f"{why}: {written(delta)} drained."
    return act(
        scene, Action.FINISH_SCALE_IN, delta, bound_by="observation", reason=reason, done=done
    )
