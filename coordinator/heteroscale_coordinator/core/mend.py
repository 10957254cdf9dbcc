"""Healing of deployment groups: launch in a better place, then withdraw, one instance at a time.

Only in quiet: nothing starts, leaves, is watched or missing, nobody's GPUs are short, and the last
change of the service is a pause ago. Never beyond a maximum or the budget. The old one leaves by the
policy's own soft scale-in of what is more than wanted, with every consent; only who is said here.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState
from heteroscale_coordinator.core import breaker, launching, sites
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.mend import MendMemory
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    STARTING_STATES,
    Action,
    Decision,
    Instance,
    Service,
    Verdict,
    counts_as_supply,
)
from heteroscale_coordinator.core.placement import (
    Infeasible,
    Move,
    Placed,
    Standing,
    flaws,
    pairs_of,
    repair,
)
from heteroscale_coordinator.core.policy import ServiceView, bounds
from heteroscale_coordinator.core.spec import PlacementSpec

_UNQUIET = frozenset(
    {"coverage", "partition", "guard", "starting", "shortage", "observation", "placement"}
)
"""What binds a hold during which nothing is moved."""


def kept(draft: Draft, memory: PolicyMemory) -> PolicyMemory:
    """Return the memory with a move ended whose old instance is gone, or whose new one has failed."""
    move = memory.mend
    if move is None or not move.leaves:
        return memory
    old, new = draft.instance(move.leaves), draft.instance(move.comes)
    leaving = old is None or old.state is not InstanceState.IN_SERVICE
    failed = new is None or new.state not in LIVE_STATES
    if not (leaving or failed) and new is not None and not _absorbed(draft, memory, new):
        return memory
    return replace(memory, mend=replace(move, leaves="", comes=""))


def _absorbed(draft: Draft, memory: PolicyMemory, new: Instance) -> bool:
    """Return whether demand has grown since, so that both are wanted and none leaves."""
    if new.state is not InstanceState.IN_SERVICE:
        return False
    mates = [one for one in draft.instances_of(new.service) if one.role is new.role]
    return sum(map(counts_as_supply, mates)) <= memory.wanted.get(new.role, 0)


def preferred(verdict: Verdict, memory: PolicyMemory) -> Verdict:
    """Return a scale-in that takes first who is to leave for a move."""
    move = memory.mend
    if verdict.action is not Action.SCALE_IN or move is None or not move.leaves:
        return verdict
    return replace(verdict, prefer=verdict.prefer | {move.leaves})


def mend(
    draft: Draft, service: Service, view: ServiceView, verdict: Verdict, decision: Decision
) -> Decision | None:
    """Begin a move when all is quiet and something is to be healed.

    Returns the decision to hold, with what is wrong and why it is not healed now; None when a move was
    begun and recorded.
    """
    rules = service.spec.placement.repair
    if not rules.enabled or not _quiet(draft, service, view, verdict):
        return decision
    looked = draft.state.looked.get(service.name)
    if looked is not None and draft.now - looked[0] < rules.pause:
        return _told(decision, looked[1])
    found = _find(draft, service)
    if isinstance(found, Move):
        found = _too_much(service, view, found) or found
    draft.state.looked[service.name] = (draft.now, found if isinstance(found, str) else "")
    if isinstance(found, str):
        return _told(decision, found)
    _begin(draft, service, verdict, decision, found)
    return None


def _told(decision: Decision, text: str) -> Decision:
    return replace(decision, inputs={**decision.inputs, "repair": text}) if text else decision


def _quiet(draft: Draft, service: Service, view: ServiceView, verdict: Verdict) -> bool:
    memory, wanted = verdict.memory, verdict.memory.wanted
    if verdict.action is not Action.HOLD or verdict.bound_by in _UNQUIET:
        return False
    if memory.soft or memory.breach or memory.stability.unplaced or view.short:
        return False
    under_way = memory.mend is not None and memory.mend.leaves
    # A move must not take what somebody of higher priority waits for.
    if under_way or draft.state.asked.wanting:
        return False
    if not view.covered or view.partition or view.plan is not None:
        return False
    if any(n != wanted.get(role, n) for role, n in view.present().items()):
        return False
    return not any(map(_moving, (m.instance for m in view.members))) and _calm(
        draft, service, memory
    )


def _moving(instance: Instance) -> bool:
    """Return whether an instance is neither in service for certain nor over and done with."""
    held = instance.state in LIVE_STATES and instance.state is not InstanceState.IN_SERVICE
    return held or instance.state in STARTING_STATES or instance.state is InstanceState.LOST


def _calm(draft: Draft, service: Service, memory: PolicyMemory) -> bool:
    moved = memory.mend.at if memory.mend is not None else None
    changed = [memory.last_out_at, memory.last_guard_at, memory.last_in_at, moved]
    changed += [one.changed_at for one in draft.instances_of(service.name)]
    newest = max((at for at in changed if at is not None), default=draft.state.started_at)
    return draft.now - newest >= service.spec.placement.repair.pause


def _find(draft: Draft, service: Service) -> Move | str:
    spec, instances = service.spec, draft.instances_of(service.name)
    barred = breaker.barred(
        service.memory,
        spec.policy.stability.breaker,
        instances,
        draft.now,
        draft.state.sub_cluster,
    )
    movable = {one.instance_id for one in instances if one.ours}
    standing = sites.standings(draft, service)
    level, inner = spec.placement.affinity, spec.inner_ratio
    here = sites.homes(draft, standing)
    # Nearly always nothing is wrong, and that is seen without a look at the whole fleet.
    pairs = pairs_of(standing, here, spec.ratio, level, inner)
    if not any(True for _ in flaws(standing, here, pairs)):
        return ""

    def placer(one: Standing, placement: PlacementSpec) -> Placed | Infeasible:
        if one.instance_id not in movable:
            return Infeasible(("it was not launched by us",))
        delta = {one.role: 1}
        return launching.place_as(draft, service, delta, barred, placement, without=one.instance_id)

    return repair(standing, sites.view(draft), spec.ratio, spec.placement, placer, inner=inner)


def _too_much(service: Service, view: ServiceView, move: Move) -> str:
    """Return which bound leaves no room for one more before one leaves; empty: none."""
    spec, role = service.spec, move.leaves.role
    rules, present = spec.roles[role], view.present()
    stays = f"{role} {move.leaves.instance_id} {move.why}; it stays, for"
    if present[role] + 1 > rules.max:
        return f"{stays} {role} is at its maximum"
    if not bounds.within({**present, role: present[role] + 1}, spec):
        return f"{stays} the GPU budget is full"
    return ""


def _begin(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, move: Move
) -> None:
    role, old = move.leaves.role, move.leaves.instance_id
    order = replace(verdict, action=Action.REPAIR, delta={role: 1}, hold={})
    (new,) = launching.start_spots(draft, service, order, move.comes, decision.decision_id)
    why = f"{role} {old} {move.why}"
    memory = replace(verdict.memory, mend=MendMemory(draft.now, old, new, why))
    draft.put_service(replace(service, memory=memory))
    said = f"{why[:1].upper()}{why[1:]}: one is launched elsewhere, then it leaves."
    inputs = {**decision.inputs, "placement": move.comes.reason, "leaves": old}
    draft.record(
        replace(
            decision,
            action=Action.REPAIR,
            delta={role: 1},
            reason=said,
            bound_by="placement",
            inputs=inputs,
            instance_ids=(new,),
        )
    )
