"""Giving in a shortage: a service of lower priority shrinks, softly and in ratio, for a higher one.

How much is lacking, and which of its instances would help, it is told (``view.short``); nothing else
of other services is known here. It gives the fewest GPUs that cover what is asked, down to its
essential counts and inside its hourly budget. What was given is drained after a short observation,
whatever its own demand, and until the shortage is over it launches nothing above its essential counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from heteroscale.words import Role
from heteroscale_coordinator.core import sums
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Counts, Verdict
from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.policy.scene import Held, Scene
from heteroscale_coordinator.core.policy.shrink import withdraw
from heteroscale_coordinator.core.policy.view import Short, written
from heteroscale_coordinator.core.spec import RoleSpec, ServiceSpec
from heteroscale_coordinator.core.sums import Sum

HOUR = 3600.0


def essential(rules: RoleSpec) -> int:
    """Return the count below which a role never shrinks for others."""
    return max(rules.min, rules.essential or 0)


def budget(memory: PolicyMemory, spec: ServiceSpec, held: int, now: float) -> Sum:
    """Return the GPUs that may still be given within the hour; ``held`` GPUs are in service."""
    given = sum(gpus for at, gpus in memory.stability.given if now - at < HOUR)
    step = sum(rules.gpus * rules.ranks for rules in spec.roles.values())
    share = spec.policy.shortage.hourly
    if not share:
        return sums.reckon("0 * hourly", "GPUs", hourly=share)
    return sums.reckon(
        "max(0, max(floor(hourly * (held + given)), step) - given)",
        "GPUs",
        hourly=share,
        held=held,
        given=given,
        step=step,
    )


def give(scene: Scene) -> Verdict | Held | None:
    """Withdraw what a service of higher priority lacks."""
    short, memory = scene.view.short, scene.memory
    if short is None or not short.gpus:
        return None
    scene.inputs["shortage"] = f"{short.to} lacks GPUs; {short.gpus} are asked of this service"
    if memory.soft is not None:
        return Held("shortage", f"{short.to} needs GPUs; what was withdrawn is on its way.")
    held = bounds.gpus(scene.view.serving(), scene.spec)
    left = scene.keep("shortage_budget", budget(memory, scene.spec, held, scene.now))
    step = _smallest(scene, short, left)
    if not step:
        why = "essential counts, ratio or hourly budget leave nothing to give"
        return Held("shortage", f"{short.to} needs {short.gpus} GPUs, but {why}.")
    freed = _freed(step, short, scene.spec)
    after = {role: n - step.get(role, 0) for role, n in scene.present.items()}
    doing = f"{short.to} of higher priority needs {short.gpus} GPUs"
    found = withdraw(scene, after, doing, bound_by="shortage", wanted=after)
    if isinstance(found, Held):
        return found
    return _promised(scene, found, step, freed, short)


def _promised(scene: Scene, found: Verdict, step: Counts, freed: int, short: Short) -> Verdict:
    """Remember what it was for, and what it cost of the budget."""
    done, now = found.done, scene.now
    if done.soft is None:
        return found
    until = now + scene.policy.shortage.observation
    soft = replace(done.soft, until=until, cause="shortage", gpus=freed)
    kept = [one for one in done.stability.given if now - one[0] < HOUR]
    given = (*kept, (now, bounds.gpus(step, scene.spec)))
    stability = replace(done.stability, given=given)
    done = replace(done, soft=soft, stability=stability)
    return replace(found, done=done, prefer=short.instance_ids)


def _freed(step: Counts, short: Short, spec: ServiceSpec) -> int:
    """Return how many of the GPUs that a step gives up help."""
    return bounds.gpus({r: min(n, short.useful.get(r, 0)) for r, n in step.items()}, spec)


def _smallest(scene: Scene, short: Short, budget_left: float) -> Counts:
    """Return the step that gives up fewest GPUs and covers the need; else the one that helps most."""
    spec, best = scene.spec, (False, 0, 0)
    found: dict[Role, int] = {}
    for step in _steps(scene, short):
        cost, freed = bounds.gpus(step, spec), _freed(step, short, spec)
        if not freed or cost > budget_left:
            continue
        enough = freed >= short.gpus
        rank = (enough, -cost if enough else freed, -cost)
        if not found or rank > best:
            best, found = rank, step
    return found


def _steps(scene: Scene, short: Short) -> Iterator[dict[Role, int]]:
    """Yield the steps that essential counts and ratio allow, of what serves and is ours."""
    spec, present, movable = scene.spec, scene.present, scene.view.movable()
    serving = scene.view.serving()
    most = {}
    for role, rules in spec.roles.items():
        free = min(present[role], serving[role]) - essential(rules)
        each = rules.gpus * rules.ranks
        # Twice what is asked leaves room for what the ratio takes along.
        most[role] = max(0, min(free, movable[role], 2 * short.gpus // each + 2))
    chosen = [role for role in most if role is not Role.FFN]
    for counts in product(*(range(most[role] + 1) for role in chosen)):
        step = _with_ffn(scene, dict(zip(chosen, counts, strict=True)), most)
        after = {role: n - step[role] for role, n in present.items()}
        if any(counts) and ratio.all_permitted(present, after, spec):
            yield {role: n for role, n in step.items() if n}


def _with_ffn(scene: Scene, step: dict[Role, int], most: Counts) -> dict[Role, int]:
    """Return a step with the ffn that its attention leaves without work."""
    for pair in ratio.pairs_of(scene.spec)[1:]:
        role, left = pair.follower, scene.present[pair.lead] - step[pair.lead]
        spare = scene.present[role] - ratio.prefill_limits(left, pair.band).high
        step[role] = max(0, min(spare, most[role]))
    return step


def least_missing(scene: Scene, missing: Counts) -> dict[Role, int]:
    """Return what is missing of the essential counts alone while GPUs are a higher service's."""
    if scene.view.short is None:
        return dict(missing)
    floors = {role: essential(rules) for role, rules in scene.spec.roles.items()}
    capped = {role: min(n, floors[role] - scene.present[role]) for role, n in missing.items()}
    return {role: n for role, n in capped.items() if n > 0}


def told(short: Short, missing: Counts) -> Held:
    """Return the hold of a service that misses instances which a higher one needs more."""
    return Held("shortage", f"{written(missing)} missing, but {short.to} needs the GPUs more.")
