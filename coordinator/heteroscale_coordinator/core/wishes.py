"""What an operator asks, checked against what is, and answered in the same turn."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core import breaker, of_nodes, sites
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import busy, issue
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    Answer,
    ApplyService,
    CordonNode,
    DeleteService,
    DrainInstance,
    ForgetAgent,
    PauseService,
    ReinstateInstance,
    ResumeService,
    ScaleService,
    SwitchInstanceRole,
    UncordonNode,
    Wish,
)
from heteroscale_coordinator.core.model import Instance, Service, Verb
from heteroscale_coordinator.core.placement import Crowds
from heteroscale_coordinator.core.policy.split import followed
from heteroscale_coordinator.core.refused import RefusedError

_BACK = frozenset({InstanceState.WITHDRAWN, InstanceState.DRAINING})
_RUNNING = frozenset({InstanceState.IN_SERVICE, InstanceState.WARMING, InstanceState.WITHDRAWN})


def grant(draft: Draft, wish: Wish) -> None:
    """Carry out ``wish`` and emit its answer."""
    try:
        _grant(draft, wish)
    except RefusedError as no:
        draft.emit(Answer(wish.request_id, str(no), no.not_found))
    else:
        draft.emit(Answer(wish.request_id))


def _grant(draft: Draft, wish: Wish) -> None:
    match wish:
        case ApplyService():
            _apply(draft, wish)
        case DeleteService():
            _delete(draft, wish)
        case PauseService():
            service = _service(draft, wish.name)
            draft.put_service(replace(service, paused=wish.reason or "by an operator"))
        case ResumeService():
            service = _service(draft, wish.name)
            memory = breaker.forgiven(service.memory)
            draft.put_service(replace(service, paused="", quarantine="", memory=memory))
        case ScaleService():
            _scale(draft, wish)
        case DrainInstance():
            _drain(draft, wish)
        case ReinstateInstance():
            _reinstate(draft, wish)
        case SwitchInstanceRole():
            _switch(draft, wish)
        case ForgetAgent() | CordonNode() | UncordonNode():
            of_nodes.grant(draft, wish)


def _service(draft: Draft, name: str) -> Service:
    service = draft.service(name)
    if service is None:
        raise RefusedError(
            f"no service {name!r}; `heteroscale get services` lists them", not_found=True
        )
    return service


def _instance(draft: Draft, instance_id: str) -> Instance:
    instance = draft.instance(instance_id)
    if instance is None:
        hint = "`heteroscale get instances` lists them"
        raise RefusedError(f"no instance {instance_id!r}; {hint}", not_found=True)
    return instance


def _apply(draft: Draft, wish: ApplyService) -> None:
    service = draft.service(wish.name)
    if service is None:
        service = Service(wish.name, wish.spec)
    elif service.deleting:
        raise RefusedError(f"service {wish.name!r} is being deleted; wait until it is gone")
    else:
        _keep_roles(draft, wish)
    # A new specification is a new chance for a service that was quarantined, or failed to start.
    memory = service.memory if service.spec == wish.spec else breaker.forgiven(service.memory)
    # Who applies a document says its targets anew, the old numbers too: they are for what runs now.
    memory = replace(memory, learning=replace(memory.learning, marks={}, stale={}))
    draft.put_service(
        replace(service, spec=wish.spec, document=wish.document, quarantine="", memory=memory)
    )


def _keep_roles(draft: Draft, wish: ApplyService) -> None:
    """Refuse to forget a role whose instances still run: nothing would count or stop them."""
    for instance in draft.instances_of(wish.name):
        if instance.state not in life.ENDED and instance.role not in wish.spec.roles:
            raise RefusedError(
                f"service {wish.name!r} still has {instance.role} instances, and the new "
                "specification has no such role; `heteroscale delete service --drain` it first, "
                "or give the new one another name"
            )


def _delete(draft: Draft, wish: DeleteService) -> None:
    service = _service(draft, wish.name)
    if wish.drain:
        draft.put_service(replace(service, deleting=True))
    else:
        draft.drop_service(wish.name)


def _scale(draft: Draft, wish: ScaleService) -> None:
    service = _service(draft, wish.name)
    if service.spec.external and not service.spec.watched and not service.memory.external.counts:
        raise RefusedError(
            f"nothing is asked for yet of {wish.name!r}, which others scale: what runs is still being "
            f"looked for, and is taken over as it stands. `heteroscale explain {wish.name}` says what "
            "is missing; scale it after that"
        )
    for role, count in wish.counts.items():
        bounds = service.spec.roles.get(role)
        if bounds is None:
            raise RefusedError(f"service {wish.name!r} has no role {role}")
        if not bounds.min <= count <= bounds.max:
            raise RefusedError(f"{role} {count} is outside its bounds {bounds.min} to {bounds.max}")
    wanted = {**_standing(draft, service), **service.memory.wanted, **wish.counts}
    if Role.FFN not in wish.counts:
        wanted = followed(wanted, service.spec)
    gpus = sum(wanted[role] * spec.gpus * spec.ranks for role, spec in service.spec.roles.items())
    if service.spec.max_gpus is not None and gpus > service.spec.max_gpus:
        raise RefusedError(f"{gpus} GPUs are above maxGpus {service.spec.max_gpus}")
    # A change by hand is a change: the cooldowns run from it.
    memory = replace(service.memory, wanted=wanted, last_out_at=draft.now, last_in_at=draft.now)
    draft.put_service(replace(service, memory=memory))


def _standing(draft: Draft, service: Service) -> dict[Role, int]:
    """Return what runs now: the counts of roles that the wish does not name."""
    running = [i.role for i in draft.instances_of(service.name) if i.state not in life.ENDED]
    return {role: max(running.count(role), spec.min) for role, spec in service.spec.roles.items()}


def _drain(draft: Draft, wish: DrainInstance) -> None:
    instance = _instance(draft, wish.instance_id)
    if instance.state not in _RUNNING:
        raise RefusedError(
            f"{wish.instance_id} is {instance.state}: only a running instance is drained"
        )
    if not instance.ours:
        raise RefusedError(f"{wish.instance_id} belongs to {instance.origin}: it is stopped there")
    if busy(draft, instance):
        raise RefusedError(f"{wish.instance_id} has an order under way; try again in a moment")
    issue(draft, Verb.DRAIN, instance, f"operator: {wish.reason}" if wish.reason else "operator")
    if (service := draft.service(instance.service)) is not None:
        # Who empties a node for a reason does not want the replacement there at once.
        agents = [rank.agent_id for rank in instance.ranks if rank.agent_id]
        avoid = breaker.passed_over(service.memory, draft.state.rules, agents, draft.now)
        draft.put_service(replace(service, memory=replace(service.memory, avoid=avoid)))


def _reinstate(draft: Draft, wish: ReinstateInstance) -> None:
    instance = _instance(draft, wish.instance_id)
    if instance.state not in _BACK:
        raise RefusedError(f"{wish.instance_id} is {instance.state}: nothing to take back")
    if instance.terminating:
        raise RefusedError(f"{wish.instance_id} has been sent TERM: it cannot be taken back")
    if busy(draft, instance):
        raise RefusedError(f"{wish.instance_id} has an order under way; try again in a moment")
    issue(draft, Verb.REINSTATE, instance, "operator")
    _want_one_more(draft, instance)


def _want_one_more(draft: Draft, instance: Instance) -> None:
    """What an operator takes back is wanted again; else it would leave once more as surplus."""
    service = draft.service(instance.service)
    if service is None or instance.role not in service.spec.roles:
        return
    wanted = {**_standing(draft, service), **service.memory.wanted}
    most = service.spec.roles[instance.role].max
    wanted[instance.role] = min(most, wanted[instance.role] + 1)
    draft.put_service(replace(service, memory=replace(service.memory, wanted=wanted)))


def _switch(draft: Draft, wish: SwitchInstanceRole) -> None:
    """Have one engine change sides; the counts that are wanted change with it, within their bounds."""
    instance = _instance(draft, wish.instance_id)
    service = _service(draft, instance.service)
    if instance.role is wish.role:
        raise RefusedError(f"{wish.instance_id} is {wish.role} already")
    if not {instance.role, wish.role} <= set(service.spec.roles):
        raise RefusedError(f"service {service.name!r} has no role {wish.role} to switch to")
    if instance.state is not InstanceState.IN_SERVICE:
        raise RefusedError(f"{wish.instance_id} is {instance.state}: only one in service switches")
    if not instance.ours or len(instance.ranks) > 1:
        raise RefusedError(f"{wish.instance_id} cannot switch: it has an owner, or several ranks")
    if busy(draft, instance):
        raise RefusedError(f"{wish.instance_id} has an order under way; try again in a moment")
    wanted = {**_standing(draft, service), **service.memory.wanted}
    fewest, most = service.spec.roles[instance.role].min, service.spec.roles[wish.role].max
    if _serving(draft, service, instance.role) <= fewest:
        raise RefusedError(f"{instance.role} would be below its min {fewest}")
    if _serving(draft, service, wish.role) >= most:
        raise RefusedError(f"{wish.role} would be above its max {most}")
    _keeps_apart(draft, service, instance, wish.role)
    wanted[instance.role] = max(fewest, wanted[instance.role] - 1)
    wanted[wish.role] = min(most, wanted[wish.role] + 1)
    memory = replace(service.memory, wanted=wanted, last_out_at=draft.now, last_in_at=draft.now)
    draft.put_service(replace(service, memory=memory))
    issue(draft, Verb.SWITCH_ROLE, instance, "operator", role=wish.role)


def _keeps_apart(draft: Draft, service: Service, instance: Instance, role: Role) -> None:
    """Refuse a switch that breaks a spread limit which is required."""
    rule = service.spec.placement.spread
    if rule is None or not rule.required:
        return
    every = sites.standings(draft, service)
    crowds = Crowds.of(rule, sites.view(draft), every)
    (one,) = (one for one in every if one.instance_id == instance.instance_id)
    if broken := crowds.broken_by(one, role):
        raise RefusedError(f"placement.spread is required, and there would be {broken}")


def _serving(draft: Draft, service: Service, role: Role) -> int:
    instances = draft.instances_of(service.name)
    return sum(i.role is role and i.state is InstanceState.IN_SERVICE for i in instances)
