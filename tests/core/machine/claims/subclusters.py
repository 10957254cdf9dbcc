"""Sub-clusters: quotas are hard, a silent one gets nothing new, and no group straddles two."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from heteroscale.words import InstanceState as S
from heteroscale_coordinator.core.model import Command, Verb
from tests.core.machine.claims.facts import Ledger, issued
from tests.core.machine.unruly import Turn

_ENDED = (S.FAILED, S.TERMINATED)


def _launches(turn: Turn) -> Iterator[tuple[str, Command]]:
    for command in issued(turn):
        if command.verb is Verb.LAUNCH:
            yield _home(turn, command.agent_id), command


def _home(turn: Turn, agent_id: str) -> str:
    return turn.world.agents[agent_id].inventory.topology.get("physical_cluster", "")


def _held(turn: Turn) -> Counter[tuple[str, str]]:
    """Count the GPUs that instances hold, by sub-cluster and type, and by sub-cluster and service."""
    found: Counter[tuple[str, str]] = Counter()
    for instance in turn.state.instances.values():
        for rank in instance.ranks:
            if rank.agent_id and rank.state not in _ENDED:
                types = {g.index: g.type for g in turn.world.agents[rank.agent_id].inventory.gpus}
                home = _home(turn, rank.agent_id)
                found[home, f"service {instance.service}"] += len(rank.gpu_indices)
                for index in rank.gpu_indices:
                    found[home, types[index]] += 1
    return found


def nothing_is_launched_beyond_the_quota_of_a_sub_cluster(turn: Turn, _: Ledger) -> None:
    launched = {(home, command.instance_id) for home, command in _launches(turn)}
    if not turn.state.rules.sub_clusters or not launched:
        return
    held = _held(turn)
    for home, instance_id in launched:
        rules = turn.state.rules.sub_clusters.get(home)
        if rules is None:
            continue
        one = turn.state.instances[instance_id]
        for kind, most in rules.quotas.items():
            if kind == one.gpu_type:
                assert held[home, kind] <= most, (
                    f"{held[home, kind]} {kind} in {home}, quota {most}"
                )
        most = rules.service_quotas.get(one.service, 10**6)
        mine = held[home, f"service {one.service}"]
        assert mine <= most, f"{mine} GPUs of {one.service} in {home}, quota {most}"


def a_silent_sub_cluster_gets_no_new_work(turn: Turn, _: Ledger) -> None:
    """Silent: more than half of its agents are unheard for as long as that takes."""
    agents: defaultdict[str, list[bool]] = defaultdict(list)
    for agent in turn.state.agents.values():
        unheard = turn.now - agent.heard_at > turn.state.rules.silent_after
        agents[_home(turn, agent.agent_id)].append(unheard)
    if len(agents) > 1:
        for home, command in _launches(turn):
            silent = agents[home]
            assert 2 * sum(silent) <= len(silent), f"{command.agent_id} of silent {home} launches"


def no_group_straddles_two_sub_clusters(turn: Turn, _: Ledger) -> None:
    homes: defaultdict[str, set[str]] = defaultdict(set)
    fresh = {command.instance_id for _, command in _launches(turn)}
    for instance_id in fresh:
        one = turn.state.instances[instance_id]
        homes[one.group] |= {_home(turn, rank.agent_id) for rank in one.ranks}
    for other in turn.state.instances.values():
        if other.group in homes and other.state not in _ENDED:
            homes[other.group] |= {_home(turn, r.agent_id) for r in other.ranks if r.agent_id}
    for group, names in homes.items():
        assert len(names) == 1, f"{group} stands in {sorted(names)}"


SUB_CLUSTERS = (
    nothing_is_launched_beyond_the_quota_of_a_sub_cluster,
    a_silent_sub_cluster_gets_no_new_work,
    no_group_straddles_two_sub_clusters,
)
