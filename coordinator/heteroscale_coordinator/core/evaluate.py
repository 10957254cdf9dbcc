"""One service's part of a turn: what the policy wants is asked of placement, or ordered and recorded.

The policy says how many, placement says where; this room is the only one that knows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core import (
    breaker,
    carry,
    external,
    launching,
    mend,
    shortage,
    subclusters,
)
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import switching_to
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import (
    Action,
    Decision,
    Instance,
    Service,
    Verdict,
)
from heteroscale_coordinator.core.policy import Member, ServiceView, decide, in_force
from heteroscale_coordinator.core.shortage import Lack
from heteroscale_coordinator.core.state import Agent

_SWITCHING = frozenset({InstanceState.IN_SERVICE, InstanceState.WITHDRAWN})
"""States of an engine that is about to change its role, or being emptied for it."""


def evaluate(draft: Draft, service: Service, lacks: Sequence[Lack] = ()) -> None:
    """Decide for one service and write what follows into the draft.

    ``lacks`` is what services, this one among them, found no place for.
    """
    service = replace(service, memory=mend.kept(draft, _with_proof(draft, service)))
    if service.spec.watched or not service.spec.external:
        service = external.forget(service)
    found = view_of(draft, service)
    view = replace(found, short=shortage.short_for(draft, service, lacks))
    view = external.as_asked(view) if service.spec.external else view
    verdict = mend.preferred(decide(view), service.memory)
    # Telemetry, so in place: while the policy is blind, leases of the withdrawn are left to end.
    # A new coordinator that still waits for its fleet is not blind yet.
    waiting = not (view.covered or view.launch_only)
    blind = verdict.bound_by == "coverage" and not waiting
    (draft.state.unwatched.add if blind else draft.state.unwatched.discard)(service.name)
    decision = _decision(draft, service, verdict)
    if service.paused or service.spec.watched or service.deleting:
        draft.put_service(replace(service, memory=verdict.memory))
        draft.record(_advice(service, decision))
        return
    if service.spec.external:
        external.ask(draft, service, found, verdict, decision)
        return
    ask = {
        Action.SCALE_OUT: launching.question,
        Action.REPAIR: launching.question,
        Action.SCALE_IN: carry.question,
    }.get(verdict.action)
    if ask is not None:
        draft.state.asked.ask(ask(draft, service, verdict, decision))
        return
    carry_out = {
        Action.REINSTATE: carry.reinstate,
        Action.FINISH_SCALE_IN: carry.finish,
        Action.RELEASE: carry.release,
        Action.SWITCH_ROLE: carry.switch_role,
    }.get(verdict.action)
    if carry_out is None:
        held = mend.mend(draft, service, view, verdict, decision)
        if held is not None:
            draft.put_service(replace(service, memory=verdict.memory))
            draft.record(held)
    else:
        carry_out(draft, service, verdict, decision)


def _advice(service: Service, decision: Decision) -> Decision:
    """Return the decision as one that is not acted on, and why not."""
    why = service.paused or ("deleting" if service.deleting else "advisory")
    reason = decision.reason
    if service.spec.learning and not (service.paused or service.deleting):
        roles = " and ".join(sorted(service.spec.learning))
        why = f"the target of {roles} is being learned, and no number is accepted yet"
        reason = f"{reason} Not acted on: {why}."
    inputs = {**decision.inputs, "not acted": why}
    return replace(decision, advisory=True, reason=reason, inputs=inputs)


def _with_proof(draft: Draft, service: Service) -> PolicyMemory:
    """Return the memory with breakers closed where a later launch has proven itself."""
    spec = service.spec.policy.stability.breaker
    return breaker.proven(
        service.memory,
        spec,
        draft.instances_of(service.name),
        draft.now,
        draft.state.sub_cluster,
    )


def view_of(draft: Draft, service: Service) -> ServiceView:
    """Return what the policy may see of a service."""
    state, name = draft.state, service.name
    instances = [i for i in draft.instances_of(name) if i.state not in life.ENDED]
    present = [i for i in instances if i.state is not InstanceState.LOST]
    homes = {rank.agent_id for i in present for rank in i.ranks if rank.agent_id}
    unheard = [agent_id for agent_id in homes if not _heard(state.agents.get(agent_id))]
    waited = draft.now - state.started_at >= state.rules.cover_for
    cut_off = homes & state.cut_off.keys()
    switching = carry.switchers(draft, service, instances)
    return ServiceView(
        name=name,
        spec=in_force(service.spec, service.memory.learning),
        learning=service.spec.learning,
        makes=_makes(draft, service, homes),
        members=tuple(
            Member(
                _to_be(draft, i),
                state.tracks.get(i.instance_id),
                carry.recallable(draft, i),
                i.instance_id in switching,
            )
            for i in instances
        ),
        # One that nobody watches any more must not hold back a scale-in for ever.
        routers=tuple(t for t in state.routers.get(name, {}).values() if t.named(draft.now)),
        zones=state.zones,
        memory=service.memory,
        nic_shares=_nic_shares(draft, service, homes),
        now=draft.now,
        partition=bool(cut_off),
        elsewhere=subclusters.elsewhere(state, cut_off),
        covered=not unheard,
        launch_only=bool(unheard) and waited,
    )


def _makes(draft: Draft, service: Service, homes: set[str]) -> dict[Role, str]:
    """Return what each role runs: template, engine with the version that agents tell, GPUs, model."""
    told: dict[str, set[str]] = {}
    for home in homes:
        agent = draft.state.agents.get(home)
        for template in agent.inventory.templates if agent is not None else ():
            engine = f"{template.engine} {template.engine_version}".rstrip()
            told.setdefault(template.name, set()).add(engine)
    model = service.spec.model
    served = f", {model.name} {model.weights}" if model else ""
    return {
        role: f"{rules.template} ({', '.join(sorted(told[rules.template]))}), "
        f"{rules.ranks} × {rules.gpus} GPUs{served}"
        for role, rules in service.spec.roles.items()
        if rules.template in told
    }


def _nic_shares(draft: Draft, service: Service, homes: set[str]) -> tuple[float, ...]:
    """Return the share of the busiest port of each node that tells, where KV transfer is watched."""
    if Role.DECODE not in service.spec.roles or not service.spec.policy.transfer.enabled:
        return ()
    agents = (draft.state.agents.get(home) for home in sorted(homes))
    told = (
        [nic.share for nic in agent.devices.nics() if nic.share is not None]
        for agent in agents
        if agent is not None and agent.connected and not agent.silent
    )
    return tuple(max(shares) for shares in told if shares)


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
        sums=dict(verdict.sums),
    )
