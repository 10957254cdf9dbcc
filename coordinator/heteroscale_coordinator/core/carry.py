"""Carries a verdict out on what runs: withdraws, reinstates, switches, drains; and records it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.asked import Question
from heteroscale_coordinator.core.breaker import NOTHING_BARRED
from heteroscale_coordinator.core.command import busy, issue, switching_to
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import (
    Action,
    Counts,
    Decision,
    Instance,
    Service,
    Verb,
    Verdict,
)
from heteroscale_coordinator.core.placement import (
    Ask,
    Crowds,
    Request,
    Standing,
    Victims,
    choose_victims,
    keep_apart,
    may_become,
)

_ON_THEIR_WAY_OUT = life.ENDED | {InstanceState.DRAINING, InstanceState.LOST}


def question(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> Question:
    """Return what is asked of placement: who leaves."""
    spec, every = service.spec, sites.standings(draft, service)
    candidates = [one for one in every if withdrawable(draft, one.instance_id)]
    candidates = _preferred(verdict, candidates)
    may = {one.instance_id for one in candidates}
    delta = {role: -count for role, count in verdict.delta.items()}
    request = Request(
        Ask(service.name, spec.roles, delta, spec.placement),
        candidates,
        priority=spec.priority,
        ratio=spec.ratio,
        stays=[one for one in every if one.instance_id not in may],
    )
    known, members = draft.service(service.name) or service, sites.members(draft, service.name)
    return Question(service, known, members, verdict, decision, request, NOTHING_BARRED)


def withdraw(draft: Draft, question: Question, victims: Victims) -> None:
    """Withdraw those who leave, leased and observed."""
    service, verdict, decision = question.service, question.verdict, question.decision
    spec, leaving = service.spec, in_turn(draft, service, victims.instance_ids)
    if not leaving:
        draft.put_service(replace(service, memory=verdict.memory))
        reason = f"hold: {verdict.reason}, but no instance can be withdrawn now"
        draft.record(
            replace(decision, action=Action.HOLD, delta={}, reason=reason, bound_by="placement")
        )
        return
    for instance_id in leaving:
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
    draft.record(replace(decision, instance_ids=leaving, inputs=inputs))


def _choose(
    draft: Draft,
    service: Service,
    delta: Counts,
    candidates: Sequence[Standing],
    every: Sequence[Standing],
) -> Victims:
    """Choose among the candidates, by how full failure domains are with all that stands."""
    spec, may = service.spec, {one.instance_id for one in candidates}
    stays = [one for one in every if one.instance_id not in may]
    view, rule = sites.view(draft), spec.placement.spread
    return choose_victims(delta, candidates, view, spec.ratio, spread=rule, stays=stays)


def _preferred(verdict: Verdict, candidates: list[Standing]) -> list[Standing]:
    """Return the candidates that the verdict prefers, of each role that has enough of them."""
    liked = [one for one in candidates if one.instance_id in verdict.prefer]
    enough = {
        role
        for role, count in verdict.delta.items()
        if sum(one.role is role for one in liked) >= count
    }
    return [one for one in candidates if one.role not in enough or one in liked]


def in_turn(draft: Draft, service: Service, chosen: Sequence[str]) -> tuple[str, ...]:
    """Return who leaves in place of ``chosen``: as many of each object, those that it ends first.

    An object with ordinals ends its highest whatever is wished, so another would wait for it, empty.
    Nobody leaves while one that would have to go first cannot.
    """
    asked = Counter(
        one.turn[0] for key in chosen if (one := draft.instance(key)) is not None and one.turn
    )
    if not asked:
        return tuple(chosen)
    stands: dict[str, list[tuple[int, str]]] = {of: [] for of in asked}
    for one in draft.instances_of(service.name):
        if one.turn and one.turn[0] in asked and one.state not in _ON_THEIR_WAY_OUT:
            stands[one.turn[0]].append((one.turn[1], one.instance_id))
    first = [sorted(stands[of], reverse=True)[:count] for of, count in asked.items()]
    ends = [key for those in first for _, key in those]
    if not all(withdrawable(draft, key) for key in ends):
        return ()
    free = [key for key in chosen if (one := draft.instance(key)) is None or not one.turn]
    return (*free, *ends)


def withdrawable(draft: Draft, instance_id: str) -> bool:
    """Return whether an instance may be told to leave now."""
    instance = draft.instance(instance_id)
    return (
        instance is not None
        and instance.state is InstanceState.IN_SERVICE
        and not busy(draft, instance)
        and instance.ours
        and instance.leaves_by is None
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
    if draft.on_cordon(instance) or instance.leaves_by is not None:
        return False  # nothing new begins there, a role no more than an engine
    agent = draft.state.agents.get(instance.voice)
    templates = agent.inventory.templates if agent is not None and not agent.silent else ()
    return any(t.name == instance.template and t.switches_role for t in templates)


def switchers(draft: Draft, service: Service, instances: Iterable[Instance]) -> set[str]:
    """Return which instances the policy may count on for a switch to the other role.

    By their engines, and by a spread limit that is required: where it forbids each, one is launched.
    """
    able = {one.instance_id for one in instances if switchable(draft, one)}
    rule = service.spec.placement.spread
    if not able or rule is None or not rule.required:
        return able
    every = sites.standings(draft, service)
    full = crowds(draft, service, every)
    other = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}
    return {
        one.instance_id
        for role, gaining in other.items()
        for one in keep_apart(
            [one for one in every if one.role is role and one.instance_id in able], gaining, full
        )[0]
    }


def crowds(draft: Draft, service: Service, every: Sequence[Standing]) -> Crowds | None:
    """Return how full the failure domains of a service are; None: it has no spread limit."""
    rule = service.spec.placement.spread
    return Crowds.of(rule, sites.view(draft), every) if rule is not None else None


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
    apart, why_not = keep_apart(candidates, gaining, crowds(draft, service, every))
    chosen = _choose(draft, service, leaving, apart, every)
    found = next(iter(chosen.instance_ids), "")
    instance = draft.instance(found) if found else None
    if instance is None:
        draft.put_service(replace(service, memory=verdict.memory))
        why = f": {why_not}" if why_not else ""
        reason = f"hold: {verdict.reason}, but no instance can switch now{why}"
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
