"""Carries a verdict out: places and launches, withdraws, reinstates, drains; and records it."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core import breaker, sites
from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.command import busy, issue, switching_to
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.stability import Unplaced
from heteroscale_coordinator.core.model import (
    Action,
    Counts,
    Decision,
    Instance,
    Service,
    Together,
    Verb,
    Verdict,
)
from heteroscale_coordinator.core.placement import (
    Ask,
    Infeasible,
    Placed,
    Spot,
    Standing,
    choose_victims,
    may_become,
)
from heteroscale_coordinator.core.policy import bounds, split
from heteroscale_coordinator.core.policy.view import written
from heteroscale_coordinator.core.spec import PlacementSpec, ServiceSpec


def launch(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Place the step, or what of it finds a place, and launch it; without room, hold and say why."""
    spec, instances = service.spec, draft.instances_of(service.name)
    barred = breaker.barred(service.memory, spec.policy.stability.breaker, instances, draft.now)
    whole = _place(draft, service, verdict.delta, barred, verdict.together)
    if isinstance(whole, Placed):
        done = _with_unplaced(verdict.done, None)
        _start_all(draft, service, replace(verdict, done=done), decision, whole)
        return
    decision = _refused(decision, verdict.delta, whole, barred)
    for less in _smaller_steps(verdict, spec):
        found = _place(draft, service, less, barred, verdict.together)
        if isinstance(found, Placed):
            left = {role: n - less.get(role, 0) for role, n in verdict.delta.items()}
            unplaced = _unplaced(draft, service, left, whole, barred)
            part = _part(verdict, less, unplaced)
            said = f"{verdict.cause}. {written(less)} launched. {unplaced.why}"
            decision = replace(decision, delta=less, reason=said, bound_by="placement")
            _start_all(draft, service, part, decision, found)
            return
    unplaced = _unplaced(draft, service, verdict.delta, whole, barred)
    _no_room(draft, service, verdict, decision, unplaced)


def _smaller_steps(verdict: Verdict, spec: ServiceSpec) -> list[dict[Role, int]]:
    before, delta = split.plain(verdict.before), split.plain(verdict.delta)
    if not spec.split:
        return bounds.smaller_steps(before, delta, spec)
    found = bounds.smaller_steps(before, delta, split.plain_spec(spec))
    return [split.named(step) for step in found]


def _refused(decision: Decision, delta: Counts, found: Infeasible, barred: Barred) -> Decision:
    inputs = {
        **decision.inputs,
        "wanted": _say(delta),
        "infeasible": "; ".join(found.reasons),
        **({"closed to launches": barred.text} if barred.text else {}),
    }
    return replace(decision, inputs=inputs)


def _place(
    draft: Draft, service: Service, delta: Counts, barred: Barred, together: Together | None
) -> Placed | Infeasible:
    """Return a place; where only the demand for one domain leaves none, the reason is that."""
    plain = service.spec.placement
    if together is None:
        return place_as(draft, service, delta, barred, plain)
    near = plain.model_copy(update={"affinity": together.level, "required": True})
    found = place_as(draft, service, delta, barred, near)
    if isinstance(found, Placed):
        return found
    apart = place_as(draft, service, delta, barred, plain)
    if isinstance(apart, Infeasible):
        return apart
    why = f"{together.why}: no pairs across {together.level} domains are added"
    return Infeasible((f"{why}; {found.reasons[0]}", *found.reasons[1:]))


def place_as(
    draft: Draft,
    service: Service,
    delta: Counts,
    barred: Barred,
    placement: PlacementSpec,
    *,
    without: str = "",
) -> Placed | Infeasible:
    """Return a place under ``placement``, as if the instance ``without`` did not stand."""
    spec = service.spec
    prices = draft.state.rules.prices
    ask = Ask(service.name, spec.roles, delta, placement, sites.vendors(draft), prices)
    standing = [s for s in sites.standings(draft, service) if s.instance_id != without]
    # A trial is one instance of each role: one role alone may not be allowed by the ratio.
    trial = sum(spec.roles[role].gpus for role, n in delta.items() if n)
    with sites.offered(draft, barred, service.memory.avoid, trial) as view:
        found = view.place(ask, standing)
    if isinstance(found, Infeasible) and service.memory.avoid:
        # Elsewhere is full: where a launch failed before is better than nowhere, after the backoff.
        with sites.offered(draft, barred, trial=trial) as view:
            found = view.place(ask, standing)
    return found


def _start_all(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, found: Placed
) -> None:
    started = start_spots(draft, service, verdict, found, decision.decision_id)
    draft.put_service(replace(_newest(draft, service), memory=verdict.done))
    draft.record(_placed(decision, found, started))


def _part(verdict: Verdict, less: Counts, unplaced: Unplaced) -> Verdict:
    """Return the verdict as far as it is carried out.

    Wanted is what has a place. The rest is asked for again at once, so no cooldown of scale-out begins;
    that of scale-in does, for something was added. A breach was given no more than was placed.
    """
    done = _placed_for_breach(verdict, less)
    if verdict.action is Action.SCALE_OUT:
        placed = {role: n + less.get(role, 0) for role, n in verdict.before.items()}
        known = verdict.memory.wanted
        wanted = {
            role: min(n, max(placed.get(role, 0), known.get(role, 0)))
            for role, n in done.wanted.items()
        }
        kinds = (done.last_in_at, done.last_out_at, done.last_guard_at)
        changed = [at for at in kinds if at is not None]
        done = replace(
            done,
            wanted=wanted,
            last_out_at=verdict.memory.last_out_at,
            last_in_at=max(changed, default=None),
        )
    return replace(verdict, done=_with_unplaced(done, unplaced))


def _placed_for_breach(verdict: Verdict, less: Counts) -> PolicyMemory:
    """Return what is done with a step of the guard noted as far as it was placed.

    Where nothing that the breach asked for was placed, its step is still to come.
    """
    done, before = verdict.done, verdict.memory
    if done.breach is None or before.breach is None or done.breach == before.breach:
        return done
    asked, placed = split.plain(verdict.delta), split.plain(less)
    given = {
        role: n - asked.get(role, 0) + placed.get(role, 0) for role, n in done.breach.given.items()
    }
    breach = replace(done.breach, given=given)
    if any(placed.get(role, 0) for role in given):
        return replace(done, breach=breach)
    breach = replace(breach, last_step_at=before.breach.last_step_at)
    return replace(done, breach=breach, last_guard_at=before.last_guard_at)


def _with_unplaced(memory: PolicyMemory, unplaced: Unplaced | None) -> PolicyMemory:
    return replace(memory, stability=replace(memory.stability, unplaced=unplaced))


def _unplaced(
    draft: Draft, service: Service, delta: Counts, found: Infeasible, barred: Barred
) -> Unplaced:
    """Return what had no place; until it is tried again the policy holds in the same words."""
    reason = found.reasons[0] if found.reasons else "no node fits"
    closed = "".join(f" No launch on {name}: {why}." for name, why in sorted(barred.types.items()))
    before = service.memory.stability.unplaced
    since = before.since if before else draft.now
    # Every other tick: a launch tried in vain would keep all that comes after it from being asked.
    every = 2.0 * draft.state.rules.tick
    delta = {role: n for role, n in delta.items() if n > 0}
    return Unplaced(delta, since, f"No place for {_say(delta)}: {reason}.{closed}", every)


def _newest(draft: Draft, service: Service) -> Service:
    return draft.service(service.name) or service


def _placed(decision: Decision, found: Placed, started: list[str]) -> Decision:
    inputs = {**decision.inputs, "placement": found.reason, "affinity met": found.affinity_met}
    return replace(decision, instance_ids=tuple(started), inputs=inputs)


def start_spots(
    draft: Draft, service: Service, verdict: Verdict, found: Placed, cause: str
) -> list[str]:
    """Start every spot; of each role the last ones are to wait as the verdict says."""
    direct = {role: n - verdict.hold.get(role, 0) for role, n in verdict.delta.items()}
    started = []
    for spot in found.spots:
        direct[spot.role] -= 1
        hold = verdict.hold_for if direct[spot.role] < 0 else None
        started.append(_start(draft, service, spot, cause, hold))
    return started


def _start(draft: Draft, service: Service, spot: Spot, cause: str, hold: float | None) -> str:
    role = service.spec.roles[spot.role]
    instance = Instance(
        instance_id=draft.mint("i"),
        service=service.name,
        role=spot.role,
        ranks=spot.ranks,
        state=InstanceState.PENDING,
        generation=0,
        created_at=draft.now,
        changed_at=draft.now,
        template=role.template,
        group=spot.group,
        gpu_type=spot.gpu_type,
        cause=cause,
        message="launch ordered",
    )
    draft.put_instance(instance)
    for number in range(len(spot.ranks)):
        # Rank 0 has the gate, and so the wait.
        waits = hold is not None and number == 0
        reason = WithdrawReason.RATIO_HOLD if waits else None
        lease = hold if waits else None
        issue(draft, Verb.LAUNCH, instance, cause, rank=number, reason=reason, lease=lease)
    return instance.instance_id


def _no_room(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, unplaced: Unplaced
) -> None:
    """Nothing fits: hold, say why on every level, and look again two ticks later."""
    memory = _with_unplaced(verdict.memory, unplaced)
    draft.put_service(replace(service, memory=memory))
    reason = f"{verdict.cause}. {unplaced.why}"
    held = replace(decision, action=Action.HOLD, delta={}, reason=reason, bound_by="placement")
    draft.record(held)


def _say(delta: Counts) -> str:
    return ", ".join(f"{count:+d} {role}" for role, count in delta.items() if count)


# ---- withdraw, reinstate, drain ----


def withdraw(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Choose who leaves and withdraw them, leased and observed."""
    spec = service.spec
    candidates = [
        standing
        for standing in sites.standings(draft, service)
        if _withdrawable(draft, standing.instance_id)
    ]
    candidates = _preferred(verdict, candidates)
    victims = choose_victims(verdict.delta, candidates, sites.view(draft), spec.ratio)
    if not victims.instance_ids:
        draft.put_service(replace(service, memory=verdict.memory))
        reason = f"hold: {verdict.reason}, but no instance can be withdrawn now"
        draft.record(
            replace(decision, action=Action.HOLD, delta={}, reason=reason, bound_by="placement")
        )
        return
    for instance_id in victims.instance_ids:
        if (instance := draft.instance(instance_id)) is not None:
            issue(
                draft,
                Verb.WITHDRAW,
                instance,
                decision.decision_id,
                reason=WithdrawReason.SOFT_SCALE_IN,
                lease=spec.drain.lease,
            )
    soft = verdict.done.soft
    done = replace(
        verdict.done,
        soft=replace(soft, decision_id=decision.decision_id) if soft is not None else None,
    )
    draft.put_service(replace(service, memory=done))
    inputs = {**decision.inputs, "victims": victims.reason}
    draft.record(replace(decision, instance_ids=tuple(victims.instance_ids), inputs=inputs))


def _preferred(verdict: Verdict, candidates: list[Standing]) -> list[Standing]:
    """Return the candidates that the verdict prefers, of each role that has enough of them."""
    liked = [one for one in candidates if one.instance_id in verdict.prefer]
    enough = {
        role
        for role, count in verdict.delta.items()
        if sum(one.role is role for one in liked) >= count
    }
    return [one for one in candidates if one.role not in enough or one in liked]


def _withdrawable(draft: Draft, instance_id: str) -> bool:
    instance = draft.instance(instance_id)
    return (
        instance is not None
        and instance.state is InstanceState.IN_SERVICE
        and not busy(draft, instance)
        and instance.ours
    )


def observed(draft: Draft, service: Service) -> list[Instance]:
    """Return the instances withdrawn by soft scale-in, oldest withdrawal first."""
    found = [
        instance
        for instance in draft.instances_of(service.name)
        if instance.state is InstanceState.WITHDRAWN
        and instance.reason is WithdrawReason.SOFT_SCALE_IN
    ]
    return sorted(found, key=lambda instance: (instance.changed_at, instance.instance_id))


def _open_first(draft: Draft, instances: list[Instance]) -> list[Instance]:
    """Return them in their order, those on what an operator cordoned last: they are to leave."""
    return sorted(instances, key=draft.on_cordon)


def recallable(draft: Draft, instance: Instance) -> bool:
    """Return whether it drains for a finished scale-in alone, not for an operator, and may return."""
    if instance.state is not InstanceState.DRAINING or instance.terminating:
        return False
    drains = [c for c in draft.commands_of(instance.instance_id) if c.verb is Verb.DRAIN]
    return bool(drains) and all(c.reason is WithdrawReason.SOFT_SCALE_IN for c in drains)


def _recalled(draft: Draft, service: Service) -> list[Instance]:
    """Return the instances whose drain may be called off, the youngest drain first."""
    found = [i for i in draft.instances_of(service.name) if recallable(draft, i)]
    return sorted(found, key=lambda instance: (-instance.changed_at, instance.instance_id))


def reinstate(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Take back what was withdrawn, then what drains, as far as the verdict asks."""
    left = dict(verdict.delta)
    back: list[str] = []
    for instance in (*_open_first(draft, observed(draft, service)), *_recalled(draft, service)):
        # The policy asks again until they move; an order under way is not given twice.
        if left.get(instance.role, 0) > 0 and not busy(draft, instance):
            left[instance.role] -= 1
            back.append(instance.instance_id)
            issue(draft, Verb.REINSTATE, instance, decision.decision_id)
    _ordered(draft, service, verdict, decision, back)


def release(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Let into service those that waited for the ratio, the longest wait first."""
    waiting = [
        instance
        for instance in draft.instances_of(service.name)
        if instance.state is InstanceState.WITHDRAWN
        and instance.reason is WithdrawReason.RATIO_HOLD
    ]
    waiting.sort(key=lambda instance: (instance.changed_at, instance.instance_id))
    left, going = dict(verdict.delta), list[str]()
    for instance in waiting:
        if left.get(instance.role, 0) <= 0:
            continue
        # One whose order is on its way counts as let in already.
        left[instance.role] -= 1
        if not busy(draft, instance):
            going.append(instance.instance_id)
            issue(draft, Verb.REINSTATE, instance, decision.decision_id)
    _ordered(draft, service, verdict, decision, going)


def switchable(draft: Draft, instance: Instance) -> bool:
    """Return whether an instance serves, and its engine can change its role now."""
    if instance.state is not InstanceState.IN_SERVICE or not instance.ours:
        return False
    if len(instance.ranks) > 1 or busy(draft, instance) or switching_to(draft, instance):
        return False
    if draft.on_cordon(instance):
        return False  # nothing new begins there, a role no more than an engine
    agent = draft.state.agents.get(instance.agent_id)
    templates = agent.inventory.templates if agent is not None and not agent.silent else ()
    return any(t.name == instance.template and t.switches_role for t in templates)


def switch_role(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Choose who changes its role, as if it were to leave its own, and order it."""
    gaining = next(role for role, n in verdict.delta.items() if n > 0)
    leaving = {role: -n for role, n in verdict.delta.items() if n < 0}
    every = sites.standings(draft, service)
    ask = Ask(service.name, service.spec.roles, {}, service.spec.placement, sites.vendors(draft))
    candidates = [
        standing
        for standing in every
        if (one := draft.instance(standing.instance_id)) is not None
        and switchable(draft, one)
        and may_become(ask, gaining, standing, every)
    ]
    chosen = choose_victims(leaving, candidates, sites.view(draft), service.spec.ratio)
    found = next(iter(chosen.instance_ids), "")
    instance = draft.instance(found) if found else None
    if instance is None:
        draft.put_service(replace(service, memory=verdict.memory))
        reason = f"hold: {verdict.reason}, but no instance can switch now"
        held = replace(decision, action=Action.HOLD, delta={}, reason=reason, bound_by="placement")
        draft.record(held)
        return
    issue(draft, Verb.SWITCH_ROLE, instance, decision.decision_id, role=gaining)
    draft.put_service(replace(service, memory=verdict.done))
    inputs = {**decision.inputs, "victims": chosen.reason}
    draft.record(replace(decision, instance_ids=(found,), inputs=inputs))


def finish(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    """Drain what the observed scale-in withdrew."""
    gone = [instance for instance in observed(draft, service) if not busy(draft, instance)]
    for instance in gone:
        # The reason tells this drain from an operator's: it may be called off.
        why = WithdrawReason.SOFT_SCALE_IN
        issue(draft, Verb.DRAIN, instance, decision.decision_id, reason=why)
    _ordered(draft, service, verdict, decision, [instance.instance_id for instance in gone])


def _ordered(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, instance_ids: list[str]
) -> None:
    """Record what was ordered; nothing, for it is on its way already, is a hold."""
    draft.put_service(replace(service, memory=verdict.done))
    if not instance_ids:
        reason = f"hold: under way: {verdict.reason}"
        decision = replace(decision, action=Action.HOLD, delta={}, reason=reason)
    draft.record(replace(decision, instance_ids=tuple(instance_ids)))
