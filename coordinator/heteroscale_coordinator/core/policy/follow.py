"""The schedule among the stages: its bounds are laid over the spec's, and what they lower leaves softly.

What a window lifts needs no stage of its own: the wanted counts rise with the minimum, and repair
launches both roles in one step. What it lowers leaves in dampened, watched steps at the pace of
scale-in. Neither demand nor latency can forbid it, for a ceiling is a bound; a role whose counts are
given follows them also where no engine tells anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import bounds
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.schedule import Claim, Plan, plan_of, told
from heteroscale_coordinator.core.policy.shrink import withdraw
from heteroscale_coordinator.core.policy.stability import cooldown_in_left, startup_p90
from heteroscale_coordinator.core.policy.steps import step_in
from heteroscale_coordinator.core.policy.view import ServiceView, written
from heteroscale_coordinator.core.spec import PolicySpec

ENOUGH_STARTS = 10
"""Start-ups that must have been measured for their p90 to be worth something alone."""


def start_ahead(memory: PolicyMemory, policy: PolicySpec) -> float:
    """Return the seconds before a window at which what it lifts is begun.

    The measured start-up p90; until enough were measured, the assumed one where that is longer.
    """
    measured = startup_p90(memory, policy)
    few = len(memory.startup_times) < ENOUGH_STARTS
    return max(measured, policy.guard.startup) if few else measured


def under_schedule(view: ServiceView) -> ServiceView:
    """Return the view with the bounds that the schedule leaves now."""
    ahead = start_ahead(view.memory, view.spec.policy)
    plan = plan_of(view.spec, view.zones, view.present(), view.now, ahead)
    return view if plan is None else replace(view, spec=plan.spec, plan=plan, base=view.spec)


def tell(scene: Scene) -> None:
    """Put what the schedule says into the decision's inputs, with its arithmetic."""
    plan = scene.view.plan
    if plan is None:
        return
    scene.inputs["schedule"] = plan.text
    for kind, claims in (("floor", plan.floors), ("ceiling", plan.ceilings)):
        for role, claim in claims.items():
            rules = scene.view.base_spec.roles[role]
            name = f"schedule_{kind}_{role.value}"
            terms = {claim.kind: claim.count, "least": rules.min, "most": rules.max}
            formula = f"min(max({claim.kind}, least), most)"
            scene.reckon(name, formula, "instances", **terms)


def keep_ceiling(scene: Scene) -> Verdict | Held | None:
    """Withdraw, softly, a share of what is present beyond what the schedule allows."""
    plan = scene.view.plan
    return None if plan is None else _ease(scene, plan, plan.highs)


def keep_counts(scene: Scene) -> Verdict | Held | None:
    """Do so for roles whose counts are given, of which nothing need be heard."""
    plan = scene.view.plan
    if plan is None:
        return None
    highs = {r: n if plan.given(r) else scene.present[r] for r, n in plan.highs.items()}
    return _ease(scene, plan, highs)


def _ease(scene: Scene, plan: Plan, highs: Mapping[Role, int]) -> Verdict | Held | None:
    present = scene.present
    beyond = {role: n - highs[role] for role, n in present.items() if n > highs[role]}
    if scene.memory.soft is not None or not beyond:
        return None
    doing = f"{_said(plan.ceilings.values(), plan)}: {written(beyond)} beyond"
    left = cooldown_in_left(scene.memory, scene.policy, scene.now)
    if left > 0:
        return Held("cooldown", f"{doing}. The last change is given {left:.0f} s more.")
    full = {role: min(n, highs[role]) for role, n in present.items()}
    step = {r: step_in(n, full[r], scene.policy.dampening_in) for r, n in present.items()}
    # A small step may leave the ratio's band where the whole one does not.
    after = next(
        (found for wish in (step, full) if (found := _inside(scene, wish)) != present), present
    )
    if after == present:
        return Held("ratio", f"{doing}, but the ratio leaves nothing to withdraw.")
    return withdraw(scene, after, doing, bound_by="schedule", wanted=after)


def _inside(scene: Scene, wish: Mapping[Role, int]) -> dict[Role, int]:
    return bounds.fit_in(scene.present, wish, scene.spec)


def counts_given(scene: Scene) -> bool:
    """Return whether the schedule gives the counts, so that no signal is needed."""
    plan = scene.view.plan
    return plan is not None and plan.given(scene.spec.sizing_role)


def unheard(scene: Scene) -> Held | None:
    """Return the hold of a service whose counts are given and reached, and of which nothing is heard."""
    plan = scene.view.plan
    if plan is None:
        return None
    return Held("schedule", f"{plan.text}. Too little is heard, and nothing more is needed.")


def credit(scene: Scene, verdict: Verdict) -> Verdict:
    """Return the verdict with the window named, where its floor or ceiling is what bound it."""
    plan = scene.view.plan
    if plan is None:
        return verdict
    claims: Iterable[Claim] = ()
    action = verdict.action
    if action is Action.REPAIR and _lifted(scene, plan, scene.present):
        claims = plan.floors.values()
        if _lifted(scene, plan, scene.view.memory.wanted):  # not lost, but asked for now
            action = Action.SCALE_OUT
    elif verdict.bound_by == "bounds" and _at_a_bound(scene, plan, verdict):
        claims = [*plan.floors.values(), *plan.ceilings.values()]
    else:
        return verdict
    text = f"{verdict.reason.rstrip('.')} ({_said(claims, plan)})."
    return replace(verdict, action=action, bound_by="schedule", reason=text)


def _said(claims: Iterable[Claim], plan: Plan) -> str:
    return told(claims) or plan.text


def _lifted(scene: Scene, plan: Plan, counts: Counts) -> bool:
    """Return whether the schedule asks for more than ``counts``, and than the spec's own minimum."""
    roles = scene.view.base_spec.roles
    return any(
        counts.get(role, 0) < low and low > roles[role].min for role, low in plan.lows.items()
    )


def _at_a_bound(scene: Scene, plan: Plan, verdict: Verdict) -> bool:
    """Return whether a narrower bound is where the counts stand after the verdict."""
    sign = -1 if verdict.action is Action.SCALE_IN else 1
    after = {role: n + sign * verdict.delta.get(role, 0) for role, n in scene.present.items()}
    roles = scene.view.base_spec.roles
    low = any(after[r] <= n and n > roles[r].min for r, n in plan.lows.items())
    high = any(after[r] >= n and n < roles[r].max for r, n in plan.highs.items())
    return low or high
