"""Sub-clusters: which are silent, what of theirs is taken back, and what placement is told of them.

A sub-cluster is the physical cluster that nodes name (ADR 14). Nothing new goes to one that is silent,
or that a service's breaker closed. What was ordered there and had not started is placed elsewhere; it
may have started all the same, so it is LOST, not ended: when it is heard again it counts, and leaves
by an ordinary soft scale-in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from heteroscale.words import InstanceState
from heteroscale_coordinator.core import breaker
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.command import end
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import CommandState, Instance, Service, Verb
from heteroscale_coordinator.core.placement import SubCluster
from heteroscale_coordinator.core.placement.ledger import Ledger
from heteroscale_coordinator.core.rules import SubClusterRules
from heteroscale_coordinator.core.state import State

SILENT_SHARE = 0.5
"""A sub-cluster is silent when more than this share of its agents is."""
_NO_RULES = SubClusterRules()
_TRIAL = "it refused launches, and only the smallest step is tried there"
_ELSEWHERE = "placed elsewhere: its sub-cluster is silent"


def several(state: State) -> bool:
    """Return whether the fleet has several sub-clusters, so that one can stand in for another."""
    return len(state.seen.view.ledger.names()) > 1


def silent(state: State) -> dict[str, str]:
    """Return the sub-clusters that are silent, and why; where there is but one, none is.

    Nothing else could take its work, and each of its nodes is judged alone.
    """
    quiet = Counter(
        state.sub_cluster(agent_id)
        for agent_id, agent in state.agents.items()
        if agent.silent and agent.inventory.gpus and not agent.within
    )
    if not quiet:
        return {}
    total = state.seen.view.ledger.nodes() if state.seen.whole else _nodes(state)
    found = {
        name: f"silent: {here} of {total[name]} agents are not heard"
        for name, here in sorted(quiet.items())
        if here > SILENT_SHARE * total[name]
    }
    return found if len(total) > 1 else {}


def elsewhere(state: State, cut_off: Iterable[str]) -> bool:
    """Return whether all these agents are of silent sub-clusters, and one that is not silent is left."""
    closed = state.silent_sub_clusters.keys()
    if not state.seen.view.ledger.names() - closed:
        return False
    return all(state.sub_cluster(agent_id) in closed for agent_id in cut_off)


def _nodes(state: State) -> Counter[str]:
    """Count the agents with GPUs by sub-cluster; the view has the same once it is whole."""
    return Counter(
        state.sub_cluster(key)
        for key, agent in state.agents.items()
        if agent.inventory.gpus and not agent.within
    )


def take_back(draft: Draft) -> None:
    """Give up, for another to be placed elsewhere, what silent sub-clusters had not begun to start."""
    closed = draft.state.silent_sub_clusters
    if not draft.state.seen.view.ledger.names() - closed.keys():
        return  # there is no elsewhere
    for instance_id in tuple(draft.state.hushed):
        instance = draft.instance(instance_id)
        if instance is None or instance.silent_from is not InstanceState.PENDING:
            continue
        if instance.state is not InstanceState.UNKNOWN or not _had_time(draft, instance):
            continue
        if _homes(draft, instance) & closed.keys():
            draft.put_instance(life.give_up(instance, draft.now, _ELSEWHERE))
            for command in draft.commands_of(instance_id):
                # Sent again on its return, it would be started twice.
                if command.verb is Verb.LAUNCH:
                    end(draft, command, CommandState.EXPIRED, _ELSEWHERE)


def _had_time(draft: Draft, instance: Instance) -> bool:
    """Return whether its agents had time to find a coordinator that has just begun."""
    state = draft.state
    agents = (state.agents.get(rank.voice) for rank in instance.ranks)
    heard = all(agent is None or agent.heard for agent in agents)
    return heard or draft.now - state.started_at >= state.rules.cover_for


def never_started(draft: Draft, instance: Instance) -> bool:
    """Return whether it was placed elsewhere, and no order to start it is left."""
    pending = InstanceState.PENDING in (instance.state, instance.silent_from)
    gone = instance.replaced or instance.state is InstanceState.LOST
    return (
        pending
        and gone
        and not any(c.verb is Verb.LAUNCH for c in draft.commands_of(instance.instance_id))
    )


def settle(draft: Draft, instances: Iterable[Instance]) -> None:
    """End what was placed elsewhere and, by all that is heard now, was never started."""
    for instance in instances:
        patient = draft.now - instance.changed_at <= draft.state.rules.command_deadline
        waits = instance.state is InstanceState.PENDING
        if waits and not patient and never_started(draft, instance):
            ended = instance
            for number in range(len(instance.ranks)):
                ended = life.end_rank(
                    ended, number, InstanceState.TERMINATED, draft.now, _ELSEWHERE
                )
            draft.put_instance(ended)


def outlook(state: State, barred: Barred) -> dict[str, SubCluster]:
    """Return what is to be told of sub-clusters, whatever the service; of most, nothing is."""
    rules, quiet, elsewhere = state.rules.sub_clusters, state.silent_sub_clusters, several(state)
    found = {}
    limited = {name for name, told in state.clusters.items() if told.quotas}
    known = {*rules, *quiet, *limited, *barred.sub_clusters, *barred.trial_sub_clusters}
    for name in sorted(known):
        own = rules.get(name, _NO_RULES)
        why = quiet.get(name, "") or barred.sub_clusters.get(name, "")
        found[name] = SubCluster(
            left_out=why if elsewhere else "",
            trial=_TRIAL if elsewhere and name in barred.trial_sub_clusters else "",
            prices=own.prices,
            quotas=_quotas(state, name, own.quotas),
        )
    return found


def _quotas(state: State, name: str, own: Mapping[str, int]) -> Mapping[str, int]:
    """Return the most GPUs by type: what an operator and what the cluster itself says, the lower one."""
    told = state.clusters.get(name)
    if told is None or not told.quotas:
        return own
    limits = {kind: n for kind, n in told.quotas.items() if kind}
    if "" in told.quotas:
        every = told.quotas[""]
        types = {*limits, *own, *state.seen.view.ledger.types(name)}
        limits = {kind: min(every, limits.get(kind, every)) for kind in sorted(types)}
    return {
        kind: min(limits.get(kind, n), own.get(kind, n)) for kind, n in (limits | dict(own)).items()
    }


def told(draft: Draft, service: Service, barred: Barred) -> dict[str, SubCluster]:
    """Return what placement is told of the sub-clusters for one service."""
    found = outlook(draft.state, barred)
    used = _used(draft, service) if found else Counter[str]()
    rules = draft.state.rules.sub_clusters
    return {
        name: replace(
            one,
            quota=rules.get(name, _NO_RULES).service_quotas.get(service.name),
            used=used[name],
        )
        for name, one in found.items()
    }


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a service may take GPUs, and how many more: what it cannot use nobody should give it."""

    told: Mapping[str, SubCluster]
    require: tuple[str, ...]
    ledger: Ledger

    def own(self, name: str) -> float:
        """Return how many more GPUs it may take in a sub-cluster if others make room."""
        one = self.told.get(name, SubCluster())
        if one.left_out or (self.require and name not in self.require):
            return 0.0
        return inf if one.quota is None else max(0.0, one.quota - one.used)

    def free(self, name: str, gpu_type: str) -> float:
        """Return how many more of a type it may take there as it is: others' GPUs use up its quota."""
        quotas = self.told.get(name, SubCluster()).quotas
        of_type = quotas.get(gpu_type, inf) - self.ledger.used(name, gpu_type)
        return max(0.0, min(self.own(name), of_type))

    def own_in_all(self) -> float:
        """Return how many more GPUs it may take, wherever they are."""
        return sum(self.own(name) for name in self.ledger.names())


def doors(draft: Draft, service: Service) -> Doors:
    """Return where a service may take GPUs now."""
    spec = service.spec
    barred = breaker.barred(
        service.memory,
        spec.policy.stability.breaker,
        draft.instances_of(service.name),
        draft.now,
        draft.state.sub_cluster,
    )
    require = spec.placement.sub_cluster.require
    return Doors(told(draft, service, barred), require, draft.state.seen.view.ledger)


def _used(draft: Draft, service: Service) -> Counter[str]:
    used = Counter[str]()
    for instance in draft.instances_of(service.name):
        for rank in instance.ranks:
            if rank.state not in life.ENDED and rank.agent_id:
                used[draft.state.sub_cluster(rank.agent_id)] += len(rank.gpu_indices)
    return used


def _homes(draft: Draft, instance: Instance) -> set[str]:
    return {draft.state.sub_cluster(rank.agent_id) for rank in instance.ranks if rank.agent_id}
