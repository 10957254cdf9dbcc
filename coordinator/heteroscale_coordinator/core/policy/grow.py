"""Scale-out by demand: what would be needed, and what one step may add of it."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.policy.flap import factor_out
from heteroscale_coordinator.core.policy.laws import need_of
from heteroscale_coordinator.core.policy.scene import Held, Scene, act, difference
from heteroscale_coordinator.core.policy.stability import cooldown_out_left
from heteroscale_coordinator.core.policy.steps import step_out
from heteroscale_coordinator.core.policy.view import Short, written


def grow(scene: Scene) -> Verdict | Held | None:
    """Scale out by demand."""
    need = need_of(scene)
    if need is None:
        return None
    back = call_off(scene, need.counts, need.why, bound_by=need.bound_by)
    if back:
        return back
    blocked = backoff(scene) or _cooling(scene)
    if blocked:
        return replace(blocked, reason=f"{need.why}. {blocked.reason}")
    share = scene.policy.max_step_out
    wish = {r: step_out(n, need.counts[r], share) for r, n in scene.present.items()}
    return launch(
        scene, wish, why=need.why, bound_by="step" if wish != need.counts else need.bound_by
    )


def mend_ratio(scene: Scene) -> Verdict | Held | None:
    """Launch the prefill, or ffn, that its ratio's band lacks, once nothing wanted is missing.

    A step at a time, each with its cooldown: a new ratio is approached, not jumped to. What a soft
    scale-in took out comes back first.
    """
    if any(scene.present[role] < n for role, n in scene.memory.wanted.items()):
        return None
    found = (_mended(scene, pair) for pair in ratio.pairs_of(scene.spec))
    return next((one for one in found if one is not None), None)


def _mended(scene: Scene, pair: ratio.Pair) -> Verdict | Held | None:
    role, count = pair.follower, scene.present[pair.follower]
    low = pair.limits(scene.memory.wanted).low
    if count >= low:
        return None
    why = f"{role.value} is {count}, the {pair.name} asks for {low}"
    if back := _taken_back(scene, role, low - count, why):
        return back
    blocked = backoff(scene) or _cooling(scene)
    if blocked:
        return replace(blocked, reason=f"{why}. {blocked.reason}")
    step = step_out(count, low, scene.policy.max_step_out)
    return launch(scene, {**scene.present, role: step}, why=why, bound_by="ratio")


def _taken_back(scene: Scene, role: Role, missing: int, why: str) -> Verdict | None:
    """Return the reinstatement of a role that a soft scale-in took out; None when there is none."""
    withdrawn = scene.view.withdrawn()
    back = room_for(scene, {role: min(missing, withdrawn[role])})
    if not back:
        return None
    rest = {role: n for role, n in withdrawn.items() if n}
    soft = None if back == rest else scene.memory.soft
    done = replace(scene.memory, wanted=wanted_with(scene, back), soft=soft, low_since=None)
    reason = f"{why}. {written(back)} taken back into service."
    return act(scene, Action.REINSTATE, back, bound_by="ratio", reason=reason, done=done)


def launch(
    scene: Scene, wish: Counts, *, why: str, bound_by: str, done: PolicyMemory | None = None
) -> Verdict | Held:
    """Return the scale-out toward ``wish`` that bounds and ratio leave, or why there is none.

    ``done`` is remembered with the new wanted counts; without it the scale-out starts a cooldown.
    """
    wish = bounds.with_followers(wish, scene.spec)
    back = call_off(scene, wish, why, bound_by=bound_by, done=done)
    if back:
        return back
    after = bounds.fit_out(scene.present, wish, scene.spec, scene.held)
    delta = difference(after, scene.present)
    if not delta:
        return Held("bounds", f"{why}. Maximum, GPU budget or ratio leave no room.")
    short = any(after[role] < n for role, n in wish.items())
    scene.inputs["step"] = f"{written(wish)} wished, {written(after)} inside bounds and ratio"
    reason = f"{why}. Adding {written(delta)}, to {written(after)}."
    done = done or replace(scene.memory, last_out_at=scene.now)
    # Of a role that does not grow, what is wanted stands: a surplus of it is still to leave.
    wanted = {**after, **scene.memory.wanted, **{role: after[role] for role in delta}}
    done = replace(done, wanted=bounds.clamp(wanted, scene.spec), low_since=None)
    bound = "bounds" if short else bound_by
    found = act(scene, Action.SCALE_OUT, delta, bound_by=bound, reason=reason, done=done)
    return replace(found, cause=_begun(why))


def call_off(
    scene: Scene, wish: Counts, why: str, *, bound_by: str, done: PolicyMemory | None = None
) -> Verdict | None:
    """Return the reinstatement of what drains, before anything is launched toward ``wish``.

    It serves at once, so no cooldown applies and none is started. None when nothing can come back.
    """
    if scene.view.short is not None:
        return None  # a service of higher priority waits for it
    short = difference(bounds.with_followers(wish, scene.spec), scene.present)
    recallable = scene.view.recallable()
    back = room_for(scene, {r: min(n, recallable[r]) for r, n in short.items() if n > 0})
    if not back:
        return None
    done = replace(done or scene.memory, wanted=wanted_with(scene, back), low_since=None)
    reason = f"{why}. {written(back)} taken back: the drain is called off."
    return act(scene, Action.REINSTATE, back, bound_by=bound_by, reason=reason, done=done)


def room_for(scene: Scene, leaving: Counts) -> dict[Role, int]:
    """Return how many of those on their way out may come back under every maximum and the budget."""
    present = scene.present
    back = {
        role: min(n, scene.spec.roles[role].max - present[role])
        for role, n in leaving.items()
        if n > 0 and scene.spec.roles[role].max > present[role]
    }
    others = scene.held - bounds.gpus(leaving, scene.spec)
    return bounds.afford(present, back, scene.spec, others)


def wanted_with(scene: Scene, back: Counts) -> dict[Role, int]:
    """Return the wanted counts with ``back`` taken back; what is asked for twice counts once."""
    raised = {
        role: max(n, min(n, scene.present.get(role, 0)) + back.get(role, 0))
        for role, n in scene.memory.wanted.items()
    }
    return bounds.clamp(raised, scene.spec)


def backoff(scene: Scene) -> Held | None:
    """Return why nothing may be launched now; None when it may."""
    return reserved(scene.view.short) if scene.view.short is not None else waiting(scene)


def waiting(scene: Scene) -> Held | None:
    """Return why launches wait: the last one failed, or found no place; None when they do not.

    After a step that found no place the hold keeps its words until it is tried again.
    """
    memory, unplaced = scene.memory, scene.memory.stability.unplaced
    between = unplaced is not None and unplaced.between_tries(scene.now)
    left = memory.launch_after - scene.now
    if left <= 0:
        return Held("placement", unplaced.why) if unplaced is not None and between else None
    scene.inputs["launch_after"] = f"{left:.0f} s left after {memory.launch_failures} failures"
    return Held("backoff", "Launches wait after the last ones failed.")


def reserved(short: Short) -> Held:
    """Return why nothing is launched now: what is free, or will be, is a higher service's."""
    return Held("shortage", f"{short.to}, of higher priority, has no place for what it needs.")


def _begun(why: str) -> str:
    return why[:1].upper() + why[1:]


def _cooling(scene: Scene) -> Held | None:
    left = cooldown_out_left(scene.memory, scene.policy, scene.now)
    if left <= 0:
        return None
    factor = scene.keep("cooldown_out_factor", factor_out(scene.memory, scene.policy, scene.now))
    scene.inputs["cooldown_out"] = (
        f"{left:.0f} s left of {scene.policy.cooldown_out:g} s × {factor:g}"
    )
    return Held("cooldown", "The last scale-out is given time to work.")
