"""One service's part of a turn: what the policy wants is placed, ordered and recorded.

The policy says how many, placement says where; this room is the only one that knows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import busy, issue, switching_to
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
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
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
    choose_victims,
    place,
)
from heteroscale_coordinator.core.policy import Member, ServiceView, decide
from heteroscale_coordinator.core.state import Agent

_SWITCHING = frozenset({InstanceState.IN_SERVICE, InstanceState.WITHDRAWN})
"""States of an engine that is about to change its role, or being emptied for it."""


def evaluate(draft: Draft, service: Service) -> None:
    """Decide for one service and write what follows into the draft."""
    view = view_of(draft, service)
    verdict = decide(view)
    # Telemetry, so in place: while the policy is blind, leases of the withdrawn are left to end.
    # A new coordinator that still waits for its fleet is not blind yet.
    waiting = not (view.covered or view.launch_only)
    blind = verdict.bound_by == "coverage" and not waiting
    (draft.state.unwatched.add if blind else draft.state.unwatched.discard)(service.name)
    decision = _decision(draft, service, verdict)
    if service.paused or service.spec.advisory or service.deleting:
        draft.put_service(replace(service, memory=verdict.memory))
        why = service.paused or ("deleting" if service.deleting else "advisory")
        draft.record(replace(decision, advisory=True, inputs={**decision.inputs, "not acted": why}))
        return
    carry_out = {
        Action.SCALE_OUT: _launch,
        Action.REPAIR: _launch,
        Action.SCALE_IN: _withdraw,
        Action.REINSTATE: _reinstate,
        Action.FINISH_SCALE_IN: _finish,
    }.get(verdict.action)
    if carry_out is None:
        draft.put_service(replace(service, memory=verdict.memory))
        draft.record(decision)
    else:
        carry_out(draft, service, verdict, decision)


def view_of(draft: Draft, service: Service) -> ServiceView:
    """Return what the policy may see of a service."""
    state, name = draft.state, service.name
    instances = [i for i in draft.instances_of(name) if i.state not in life.ENDED]
    present = [i for i in instances if i.state is not InstanceState.LOST]
    homes = {rank.agent_id for i in present for rank in i.ranks if rank.agent_id}
    unheard = [agent_id for agent_id in homes if not _heard(state.agents.get(agent_id))]
    waited = draft.now - state.started_at >= state.rules.cover_for
    return ServiceView(
        name=name,
        spec=service.spec,
        members=tuple(
            Member(_to_be(draft, i), state.tracks.get(i.instance_id), _recallable(draft, i))
            for i in instances
        ),
        # One that nobody watches any more must not hold back a scale-in for ever.
        routers=tuple(t for t in state.routers.get(name, {}).values() if t.named(draft.now)),
        memory=service.memory,
        now=draft.now,
        partition=not homes.isdisjoint(state.cut_off),
        covered=not unheard,
        launch_only=bool(unheard) and waited,
    )


def _to_be(draft: Draft, instance: Instance) -> Instance:
    """Return an instance that switches its role as what it will be: else another is launched for it."""
    role = switching_to(draft, instance)
    if role is None or role is instance.role or instance.state not in _SWITCHING:
        return instance
    return replace(instance, role=role, state=InstanceState.WARMING)


def _heard(agent: Agent | None) -> bool:
    return agent is not None and agent.heard


def _decision(draft: Draft, service: Service, verdict: Verdict) -> Decision:
    return Decision(
        decision_id=draft.mint("dec"),
        service=service.name,
        at=draft.now,
        action=verdict.action,
        reason=verdict.reason,
        bound_by=verdict.bound_by,
        delta=dict(verdict.delta),
        inputs=dict(verdict.inputs),
        signals=verdict.signals,
        last_at=draft.now,
    )


# ---- launch ----------------------------------------------------------------------------------


def _launch(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    spec = service.spec
    ask = Ask(service.name, spec.roles, verdict.delta, spec.placement)
    standing = standings(draft, service)
    found = place(ask, nodes(draft, service.memory.avoid), standing)
    if isinstance(found, Infeasible) and service.memory.avoid:
        # Elsewhere is full: where a launch failed before is better than nowhere, after the backoff.
        found = place(ask, nodes(draft, {}), standing)
    if isinstance(found, Infeasible):
        _no_room(draft, service, verdict, decision, found)
        return
    started = [_start(draft, service, spot, decision.decision_id) for spot in found.spots]
    draft.put_service(replace(_newest(draft, service), memory=verdict.done))
    draft.record(_placed(decision, found, started))


def _newest(draft: Draft, service: Service) -> Service:
    return draft.service(service.name) or service


def _placed(decision: Decision, found: Placed, started: list[str]) -> Decision:
    inputs = {**decision.inputs, "placement": found.reason, "affinity met": found.affinity_met}
    return replace(decision, instance_ids=tuple(started), inputs=inputs)


def _start(draft: Draft, service: Service, spot: Spot, cause: str) -> str:
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
        issue(draft, Verb.LAUNCH, instance, cause, rank=number)
    return instance.instance_id


def _no_room(
    draft: Draft, service: Service, verdict: Verdict, decision: Decision, found: Infeasible
) -> None:
    """Nothing fits: hold, say why on every level, and look again a tick later."""
    why = "; ".join(found.reasons) or "no node fits"
    memory = replace(verdict.memory, launch_after=draft.now + draft.state.rules.tick)
    draft.put_service(replace(service, memory=memory))
    inputs = {**decision.inputs, "wanted": _say(verdict.delta), "infeasible": why}
    reason = f"hold: {_say(verdict.delta)} wanted ({verdict.reason}), but {found.reasons[0]}"
    draft.record(
        replace(
            decision,
            action=Action.HOLD,
            delta={},
            reason=reason,
            bound_by="placement",
            inputs=inputs,
        )
    )


def _say(delta: Counts) -> str:
    return ", ".join(f"{count:+d} {role}" for role, count in delta.items() if count)


# ---- withdraw, reinstate, drain ----------------------------------------------------------------


def _withdraw(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    spec = service.spec
    candidates = [
        standing
        for standing in standings(draft, service)
        if _withdrawable(draft, standing.instance_id)
    ]
    victims = choose_victims(verdict.delta, candidates, nodes(draft, {}), spec.ratio)
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


def _recallable(draft: Draft, instance: Instance) -> bool:
    """Return whether it drains for a finished scale-in alone, not for an operator, and may return."""
    if instance.state is not InstanceState.DRAINING or instance.terminating:
        return False
    drains = [c for c in draft.commands_of(instance.instance_id) if c.verb is Verb.DRAIN]
    return bool(drains) and all(c.reason is WithdrawReason.SOFT_SCALE_IN for c in drains)


def _recalled(draft: Draft, service: Service) -> list[Instance]:
    """Return the instances whose drain may be called off, the youngest drain first."""
    found = [i for i in draft.instances_of(service.name) if _recallable(draft, i)]
    return sorted(found, key=lambda instance: (-instance.changed_at, instance.instance_id))


def _reinstate(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
    left = dict(verdict.delta)
    back: list[str] = []
    for instance in (*observed(draft, service), *_recalled(draft, service)):
        # The policy asks again until they move; an order under way is not given twice.
        if left.get(instance.role, 0) > 0 and not busy(draft, instance):
            left[instance.role] -= 1
            back.append(instance.instance_id)
            issue(draft, Verb.REINSTATE, instance, decision.decision_id)
    _ordered(draft, service, verdict, decision, back)


def _finish(draft: Draft, service: Service, verdict: Verdict, decision: Decision) -> None:
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


# ---- what placement may see ----------------------------------------------------------------------


def standings(draft: Draft, service: Service) -> list[Standing]:
    """Return the service's instances that hold GPUs, as placement sees them."""
    return [
        _standing(draft, instance)
        for instance in draft.instances_of(service.name)
        if instance.state in LIVE_STATES
    ]


def _standing(draft: Draft, instance: Instance) -> Standing:
    track = draft.state.tracks.get(instance.instance_id)
    newest = track.newest if track else None
    idle = None
    if newest is not None and newest.running is not None and newest.waiting is not None:
        idle = newest.running + newest.waiting
    return Standing(
        instance_id=instance.instance_id,
        role=instance.role,
        agent_ids=tuple(rank.agent_id for rank in instance.ranks),
        group=instance.group,
        # One that came back after it had been replaced is the first to go.
        withdrawn=instance.state is InstanceState.WITHDRAWN or instance.replaced,
        idle=idle,
        gpu_type=instance.gpu_type,
        age=draft.now - instance.created_at,
    )


def nodes(draft: Draft, avoid: Mapping[str, float]) -> list[NodeView]:
    """Return every node as placement sees it, with what this turn has already taken deducted.

    ``avoid`` maps agents not to use to the time until when.
    """
    return [_node(draft, agent, avoid) for _, agent in sorted(draft.state.agents.items())]


def _node(draft: Draft, agent: Agent, avoid: Mapping[str, float]) -> NodeView:
    why = ""
    if not agent.connected or agent.silent:
        why = "not connected"
    elif avoid.get(agent.agent_id, 0.0) > draft.now:
        why = "a launch failed there a short while ago"
    taken: set[int] = set()
    for instance in draft.instances_on(agent.agent_id):
        for rank in instance.ranks:
            # By rank, not by instance: a failed instance's other ranks still hold their GPUs.
            if rank.agent_id == agent.agent_id and rank.state not in life.ENDED:
                taken.update(rank.gpu_indices)
    healthy = agent.devices.healthy
    free = tuple(
        gpu.index
        for place_of, gpu in enumerate(agent.inventory.gpus)
        if gpu.index not in taken and (place_of >= len(healthy) or healthy[place_of])
    )
    return NodeView(
        agent_id=agent.agent_id,
        hostname=agent.hostname,
        topology=agent.inventory.topology,
        gpu_types={gpu.index: gpu.type for gpu in agent.inventory.gpus},
        free=free,
        templates=frozenset(template.name for template in agent.inventory.templates),
        usable=not why,
        why_not=why,
    )
