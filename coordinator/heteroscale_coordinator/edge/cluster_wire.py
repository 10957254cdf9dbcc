"""Sub-clusters as operators are shown them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.events import ClusterTold
from heteroscale_coordinator.core.rules import SubClusterRules
from heteroscale_coordinator.core.state import Agent, State
from heteroscale_coordinator.core.topology import sub_cluster_of

_NO_RULES = SubClusterRules()


def cluster_messages(state: State) -> Iterator[pb.Cluster]:
    """Yield the sub-clusters that have nodes with GPUs, or an adapter, in order of their names."""
    nodes = defaultdict[str, list[Agent]](list)
    for agent in state.agents.values():
        if agent.inventory.gpus and not agent.within:
            nodes[sub_cluster_of(agent.inventory.topology)].append(agent)
    for name in sorted(nodes.keys() | state.clusters.keys()):
        yield _cluster(name, nodes[name], state)


def _cluster(name: str, nodes: list[Agent], state: State) -> pb.Cluster:
    told, rules = state.clusters.get(name), state.rules.sub_clusters.get(name, _NO_RULES)
    silent = [agent for agent in nodes if agent.silent]
    message = pb.Cluster(
        name=name,
        adapter=told is not None,
        nodes=len(nodes),
        silent_nodes=len(silent),
        gpu_count=sum(len(agent.inventory.gpus) for agent in nodes),
        gpu_quotas=rules.quotas,
        service_quotas=rules.service_quotas,
        gpu_prices=rules.prices,
    )
    if told is not None:
        message.own_quotas.update(told.quotas)
        message.notes.extend(told.notes)
    _tell_state(message, told, silent, state)
    _tell_use(message, nodes, state)
    return message


def _tell_state(
    message: pb.Cluster, told: ClusterTold | None, silent: list[Agent], state: State
) -> None:
    since = told.since if told is not None else 0.0
    why = state.silent_sub_clusters.get(message.name, "")
    if not why and message.nodes and len(silent) == message.nodes:
        why = "no agent is heard"  # the only one in the fleet: no other stands in for it
    if told is not None and told.trouble:
        message.state, message.message = "down", told.trouble
    elif why:
        since = max((agent.heard_at for agent in silent), default=0.0)
        message.state, message.message = "silent", why
    else:
        message.state = "up"
    if since:
        message.state_time.CopyFrom(timestamp(since))


def _tell_use(message: pb.Cluster, nodes: list[Agent], state: State) -> None:
    instances = Counter[str]()
    seen = set[str]()
    for agent in nodes:
        for one in state.of_agent(agent.agent_id):
            ranks = [rank for rank in one.ranks if rank.state not in life.ENDED]
            mine = [rank for rank in ranks if rank.agent_id == agent.agent_id]
            message.gpus_used += sum(len(rank.gpu_indices) for rank in mine)
            if mine and one.instance_id not in seen:
                seen.add(one.instance_id)
                instances[one.service] += 1
    message.instances.update(instances)
