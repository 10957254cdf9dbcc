"""The joint law: which stage is asked when. The first that acts is the verdict.

    covering → rescue → repair → partition, coverage → observation → release → bounds → ceilings →
    role switch → scale-out → guard → ratio → surplus → scale-in → hold

A role that serves nothing takes back what is on its way out, whatever is heard. Repair comes before
demand, because wanted counts are decided already; what adds comes before what withdraws; the
observation of a soft scale-in comes before a scale-out, because withdrawn instances are the first
thing it takes back. A stage that would act and may not says why, and the first such word is the
reason of a hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import driver
from heteroscale_coordinator.core.policy.advice import at_held_ratio, tell_advice
from heteroscale_coordinator.core.policy.flap import noted
from heteroscale_coordinator.core.policy.follow import (
    counts_given,
    credit,
    keep_ceiling,
    keep_counts,
    tell,
    under_schedule,
    unheard,
)
from heteroscale_coordinator.core.policy.give import give
from heteroscale_coordinator.core.policy.grow import grow, mend_ratio
from heteroscale_coordinator.core.policy.guard import guard
from heteroscale_coordinator.core.policy.ready import release, with_hold
from heteroscale_coordinator.core.policy.remember import enough_heard, remember
from heteroscale_coordinator.core.policy.repair import repair
from heteroscale_coordinator.core.policy.scene import Held, Scene, hold, look
from heteroscale_coordinator.core.policy.shrink import (
    drop_surplus,
    enforce_bounds,
    keep_ratio,
    shrink,
)
from heteroscale_coordinator.core.policy.soft import rescue, settle, watch
from heteroscale_coordinator.core.policy.split import named_verdict, plain_view
from heteroscale_coordinator.core.policy.switch import switch_role
from heteroscale_coordinator.core.policy.view import ServiceView

Stage = Callable[[Scene], Verdict | Held | None]

ADDING: tuple[Stage, ...] = (watch, release, grow, guard)
"""What may be done on fresh evidence even while agents are silent, or have not been heard yet."""
BY_THE_CLOCK: tuple[Stage, ...] = (repair, release, enforce_bounds, settle, keep_counts, unheard)
"""What is done where the counts are given and nothing is heard."""
ALL: tuple[Stage, ...] = (
    *(watch, release, enforce_bounds, keep_ceiling, give, switch_role, grow, guard),
    *(mend_ratio, keep_ratio, drop_surplus, shrink),
)

_PARTITION = (
    "Many agents are silent at once: a partition, not deaths. Nothing is replaced or withdrawn."
)
_CLUSTER_SILENT = (
    "A sub-cluster is silent: its instances count, none is replaced, and nothing is withdrawn."
)


def decide(view: ServiceView) -> Verdict:
    """Return what to do with the service now, why, and what to remember. Pure."""
    scene = look(at_held_ratio(under_schedule(plain_view(view))))
    tell(scene)
    found = noted(credit(scene, _decide(scene)), view.spec.policy, view.now)
    return named_verdict(found, view.spec)


def _decide(scene: Scene) -> Verdict:
    view = scene.view
    if not view.covered and not view.launch_only:
        return hold(scene, Held("coverage", "Covering: this coordinator has not heard enough yet."))
    scene = replace(scene, memory=remember(scene))
    tell_advice(scene)
    if (back := rescue(scene)) is not None:
        return back
    stages, otherwise = _open_to(scene)
    return _first(scene, stages, otherwise)


def _open_to(scene: Scene) -> tuple[Sequence[Stage], Held | None]:
    """Return what may be done with what is heard, and the word for it if nothing is."""
    heard = enough_heard(scene)
    adding = ADDING if heard else ()
    if scene.view.partition:
        if scene.view.elsewhere:
            return (repair, *adding), Held("partition", _CLUSTER_SILENT)
        return adding, Held("partition", _PARTITION)
    if scene.view.launch_only:
        why = "Coverage did not come in time: instances may be added, none is withdrawn."
        return (repair, *adding), Held("coverage", why)
    if not heard:
        if counts_given(scene):
            return BY_THE_CLOCK, None
        return (repair, release, enforce_bounds), _unheard(scene)
    return (repair, *ALL), None


def _first(scene: Scene, stages: Sequence[Stage], otherwise: Held | None) -> Verdict:
    """Return the first verdict; else a hold for ``otherwise``, or for the first reason held."""
    held = otherwise
    for stage in stages:
        found = stage(scene)
        if isinstance(found, Verdict):
            return with_hold(scene, found)
        held = held or found
    return hold(scene, held or _content(scene))


def _unheard(scene: Scene) -> Held:
    if not scene.signals.roles[scene.spec.sizing_role].carrying:
        return Held("coverage", "Nothing is in service yet.")
    told = ", ".join(
        f"{seen.heard} of {seen.carrying} {role.value}"
        for role, seen in scene.signals.roles.items()
    )
    return Held("coverage", f"Too few instances are heard to decide anything: {told}.")


def _content(scene: Scene) -> Held:
    policy = scene.policy
    if policy.driver != "demand":
        return driver.content(scene)
    if scene.sizing.ratio is None:
        return Held("coverage", "Demand is unknown.")
    out, low = 100 * (1 + policy.tolerance_out), 100 * (1 - policy.tolerance_in)
    band = f"out above {out:.0f} %, in below {low:.0f} % for {policy.window_in:g} s"
    return Held("demand", f"Demand is {scene.sizing.percent} of supply ({band}).")
