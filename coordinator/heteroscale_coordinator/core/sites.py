"""What placement may see: the service's instances that hold GPUs, and every node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from heteroscale.words import InstanceState
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.breaker import NOTHING_BARRED, Barred
from heteroscale_coordinator.core.cordon import Closed
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.health import closed_gpus, sick_gpus
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    Instance,
    Rank,
    Service,
)
from heteroscale_coordinator.core.placement import (
    NodeView,
    Standing,
)
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.track import Track

WARM_FOR = 60.0
"""Seconds of prompt tokens that tell how warm a prefix cache is."""


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
    sick = [_sickness(draft.state.agents.get(rank.agent_id), rank) for rank in instance.ranks]
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
        cordoned=draft.on_cordon(instance),
        sick=next(filter(None, sick), ""),
        warmth=_warmth(track, draft.now),
        gpus=len(instance.ranks[0].gpu_indices),
    )


def _sickness(agent: Agent | None, rank: Rank) -> str:
    """Return what is wrong with the GPUs of a rank, in words; empty: nothing is known."""
    if agent is None or not agent.devices.suspect:
        return ""
    sick = sick_gpus(agent)
    found = [f"GPU {index}: {sick[index]}" for index in rank.gpu_indices if index in sick]
    return f"{agent.agent_id} {'; '.join(found)}" if found else ""


def _warmth(track: Track | None, now: float) -> float | None:
    """Return how much an instance's caches hold, 0 to 1, by what it told; None: it told neither.

    KV usage now, or the share of its recent prompt tokens that were cached, whichever is higher.
    """
    if track is None or track.newest is None:
        return None
    samples = track.window(now, WARM_FOR)
    told = [] if track.newest.kv_usage is None else [min(1.0, track.newest.kv_usage)]
    asked = samples.ends("prompt_tokens", 0, len(samples) - 1)
    computed = samples.ends("computed_prompt_tokens", 0, len(samples) - 1)
    if asked is not None and computed is not None and asked[1] > asked[0]:
        missed = (computed[1] - computed[0]) / (asked[1] - asked[0])
        told.append(min(1.0, max(0.0, 1.0 - missed)))
    return max(told, default=None)


def vendors(draft: Draft) -> dict[str, str]:
    """Return the vendor of each GPU type, as far as agents tell; empty where all are of one."""
    found = {
        gpu.type: gpu.vendor
        for _, agent in sorted(draft.state.agents.items())
        for gpu in agent.inventory.gpus
        if gpu.vendor
    }
    return found if len(set(found.values())) > 1 else {}


def nodes(
    draft: Draft,
    barred: Barred = NOTHING_BARRED,
    avoid: Mapping[str, float] | None = None,
    trial: int = 0,
) -> list[NodeView]:
    """Return every node as placement sees it, with what this turn has already taken deducted.

    ``avoid`` maps agents not to use to the time until when. ``trial``: GPUs that one instance takes,
    all that is offered where ``barred`` lets only one be tried.
    """
    shut = dict(barred.nodes)
    for agent_id, until in (avoid or {}).items():
        if until > draft.now:
            shut.setdefault(agent_id, "it is passed over for a short while")
    return [
        _node(draft, agent, shut.get(agent_id, ""), barred, trial)
        for agent_id, agent in sorted(draft.state.agents.items())
    ]


def homes(draft: Draft, standing: Iterable[Standing]) -> list[NodeView]:
    """Return the nodes that instances stand on, as ``nodes`` would."""
    names = sorted({agent_id for one in standing for agent_id in one.agent_ids})
    known = (draft.state.agents.get(name) for name in names)
    return [_node(draft, agent, "", NOTHING_BARRED, 0) for agent in known if agent is not None]


def node(draft: Draft, agent: Agent, barred: Barred, avoid: Mapping[str, float]) -> NodeView:
    """Return one node as ``nodes`` would, but for trials: for whoever reads a large fleet in pieces."""
    why = barred.nodes.get(agent.agent_id, "")
    if not why and avoid.get(agent.agent_id, 0.0) > draft.now:
        why = "it is passed over for a short while"
    return _node(draft, agent, why, barred, 0)


def held(draft: Draft, agent_id: str) -> set[int]:
    """Return the GPUs of a node that instances hold.

    By rank, not by instance: a failed instance's other ranks still hold their GPUs.
    """
    return {
        index
        for instance in draft.instances_on(agent_id)
        for rank in instance.ranks
        if rank.agent_id == agent_id and rank.state not in life.ENDED
        for index in rank.gpu_indices
    }


def _node(draft: Draft, agent: Agent, why: str, barred: Barred, trial: int) -> NodeView:
    name = agent.agent_id
    return seen(agent, draft.closed(name), held(draft, name), why, barred=barred, trial=trial)


def seen(
    agent: Agent,
    closed: Closed,
    taken: Collection[int],
    why: str = "",
    *,
    barred: Barred = NOTHING_BARRED,
    trial: int = 0,
) -> NodeView:
    """Return a node as placement sees it, by what is cordoned of it and which GPUs are taken.

    ``why``: why it may not be used, if something outside the node says so.
    """
    if closed.node is not None:
        why = closed.node.text
    if not agent.connected or agent.silent:
        why = "not connected"
    shut = closed_gpus(agent) | dict.fromkeys(closed.indices, "cordoned")
    free = [
        gpu
        for gpu in agent.inventory.gpus
        if gpu.index not in taken and gpu.index not in shut and gpu.type not in barred.types
    ]
    return NodeView(
        agent_id=agent.agent_id,
        hostname=agent.hostname,
        topology=agent.inventory.topology,
        gpu_types={gpu.index: gpu.type for gpu in agent.inventory.gpus},
        free=_offered(agent.agent_id, free, barred, trial),
        templates=frozenset(template.name for template in agent.inventory.templates),
        usable=not why,
        why_not=why,
        closed={index: why for index, why in sorted(shut.items()) if index not in taken},
    )


def _offered(agent_id: str, free: list[GpuFact], barred: Barred, trial: int) -> tuple[int, ...]:
    """Return the free GPUs, only one instance's where a trial is all that is allowed."""
    tried = [gpu for gpu in free if gpu.type in barred.trial_types]
    offered = [gpu for gpu in free if gpu.type not in barred.trial_types] + tried[:trial]
    if agent_id in barred.trial_nodes:
        offered = offered[:trial]
    return tuple(sorted(gpu.index for gpu in offered))
