"""What must go on each tick whatever the policy says: leases, strays, broken instances, cleaning up.

All of it is level-triggered: it looks at what is and asks for what is missing, so a command that got
lost or refused is simply asked for again.
"""

from __future__ import annotations

from collections import defaultdict

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core import subclusters
from heteroscale_coordinator.core.command import busy, draining, end, issue
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import RemoveFromRouters, RenewLeases
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    CommandState,
    Instance,
    Service,
    Verb,
)

_STOPPABLE = frozenset({InstanceState.IN_SERVICE, InstanceState.WARMING, InstanceState.WITHDRAWN})


def attend(draft: Draft, service: Service) -> None:
    """Do one service's duties. For one that is not ours to move that is none, unless it is deleted."""
    if service.deleting:
        _delete(draft, service)
    if service.spec.hands_off:
        return
    instances = draft.instances_of(service.name)
    subclusters.settle(draft, instances)
    for instance in instances:
        if is_stray(service, instance) and not busy(draft, instance):
            issue(draft, Verb.REINSTATE, instance, "not under observation")
        _stop_other_ranks(draft, instance)
    _clear_routers(draft, service, instances)


def _clear_routers(draft: Draft, service: Service, instances: list[Instance]) -> None:
    """Ask for lost instances' workers to be taken out: their agents no longer can.

    Lost may mean cut off from us alone, so the last of a role goes on serving until it is replaced;
    and where a live instance stands on the same endpoint by now, nothing is taken.
    """
    serving = {one.role for one in instances if one.state is InstanceState.IN_SERVICE}
    dead = {
        one.endpoint
        for one in instances
        if one.state is InstanceState.LOST and one.role in serving and one.endpoint
    }
    if dead and service.spec.gate.routers:
        alive = {i.endpoint for i in draft.state.instances.values() if i.state in LIVE_STATES}
        for endpoint in sorted(dead - alive):
            draft.emit(RemoveFromRouters(service.spec.gate.routers, endpoint))


def is_stray(service: Service, instance: Instance) -> bool:
    """Return whether an instance is withdrawn for a scale-in that nobody observes any more."""
    return (
        instance.state is InstanceState.WITHDRAWN
        and instance.reason is WithdrawReason.SOFT_SCALE_IN
        and service.memory.soft is None
        and not service.deleting
    )


def leases(draft: Draft) -> list[RenewLeases]:
    """Return the renewals that the committed state asks for; also without a commit of its own."""
    due: dict[str, dict[str, float]] = defaultdict(dict)
    for service in draft.state.services.values():
        blind = service.name in draft.state.unwatched
        for instance in draft.state.of_service(service.name):
            if blind and instance.state is InstanceState.WITHDRAWN:
                continue
            if _leased(draft, service, instance):
                due[instance.voice][instance.instance_id] = service.spec.drain.lease
    return [RenewLeases(agent_id, due[agent_id]) for agent_id in sorted(due)]


def _leased(draft: Draft, service: Service, instance: Instance) -> bool:
    if instance.state is InstanceState.WITHDRAWN:
        # Whom nobody watches must come back: then the lease ends as if there were no coordinator.
        if service.paused or service.spec.hands_off or service.quarantine:
            return False
        soft = instance.reason is WithdrawReason.SOFT_SCALE_IN
        # Between FINISH_SCALE_IN and the agent's word the drain is on its way: keep it out.
        observed = service.memory.soft is not None or draining(draft, instance)
        return soft and observed
    return (
        instance.state is InstanceState.DRAINING
        and not instance.terminating
        and draining(draft, instance)
    )


def _stop_other_ranks(draft: Draft, instance: Instance) -> None:
    """Stop what is left of an instance of several ranks when one of them ended, or never came."""
    if len(instance.ranks) == 1:
        return
    if not instance.ranks[0].agent_id:
        if draft.now - instance.created_at <= draft.state.rules.lost_after:
            return
        message = "its first rank was never heard of"
        instance = life.end_rank(instance, 0, InstanceState.FAILED, draft.now, message)
        draft.put_instance(instance)
    broken = instance.state is InstanceState.FAILED
    if not broken and instance.ranks[0].state is not InstanceState.TERMINATED:
        return
    stopping = {c.rank for c in draft.commands_of(instance.instance_id) if c.verb is Verb.TERMINATE}
    for number, rank in enumerate(instance.ranks):
        if rank.state not in life.ENDED and rank.generation and number not in stopping:
            issue(draft, Verb.TERMINATE, instance, "a rank ended", rank=number)


def _delete(draft: Draft, service: Service) -> None:
    """Drain what is ours; what was found configured elsewhere is left to its owner."""
    mine = [
        instance
        for instance in draft.instances_of(service.name)
        if instance.state not in life.ENDED and instance.ours
    ]
    for instance in mine:
        if instance.state in _STOPPABLE and not draining(draft, instance):
            issue(draft, Verb.DRAIN, instance, "service deleted")
    if not mine:
        draft.drop_service(service.name)


def clean_up(draft: Draft) -> None:
    """Forget what ended long ago."""
    before = draft.now - draft.state.rules.forget_after
    for instance in draft.state.instances.values():
        over = instance.state in life.ENDED or instance.state is InstanceState.LOST
        if over and instance.changed_at < before:
            draft.drop_instance(instance.instance_id)
            for command in draft.commands_of(instance.instance_id):
                end(draft, command, CommandState.EXPIRED, "its instance was forgotten")
    for command in draft.state.commands.values():
        if command.ended and command.created_at < before:
            draft.drop_command(command.command_id)
    for agent in tuple(draft.state.agents.values()):
        if agent.heard_at < before and not draft.instances_on(agent.agent_id):
            draft.state.forget_agent(agent.agent_id)
