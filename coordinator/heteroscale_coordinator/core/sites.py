"""What placement may see: the service's instances that hold GPUs, and every node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from heteroscale.words import InstanceState
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.breaker import Barred
from heteroscale_coordinator.core.cordon import Closed
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.health import closed_gpus, limping_gpus, sick_gpus
from heteroscale_coordinator.core.holdings import not_offered
from heteroscale_coordinator.core.model import (
    LIVE_STATES,
    Instance,
    Rank,
    Service,
)
from heteroscale_coordinator.core.placement import (
    FleetView,
    Limits,
    NodeView,
    Standing,
    unwelcome,
)
from heteroscale_coordinator.core.spec import PlacementSpec
from heteroscale_coordinator.core.state import Agent, State
from heteroscale_coordinator.core.track import Track

WARM_FOR = 60.0
"""Seconds of prompt tokens that tell how warm a prefix cache is."""


def standings(draft: Draft, service: Service) -> list[Standing]:
    """Return the service's instances that hold GPUs, as placement sees them."""
    return [
        _standing(draft, instance, service.spec.placement)
        for instance in draft.instances_of(service.name)
        if instance.state in LIVE_STATES
    ]


def members(draft: Draft, name: str) -> frozenset[str]:
    """Return the ids of a service's instances that hold GPUs."""
    held = (one for one in draft.instances_of(name) if one.state in LIVE_STATES)
    return frozenset(one.instance_id for one in held)


def _standing(draft: Draft, instance: Instance, placement: PlacementSpec) -> Standing:
    track = draft.state.tracks.get(instance.instance_id)
    newest = track.newest if track else None
    idle = None
    if newest is not None and newest.running is not None and newest.waiting is not None:
        idle = newest.running + newest.waiting
    places = (draft.state.place_of(rank.agent_id) for rank in instance.ranks)
    agents = [draft.state.agents.get(place) for place in places]
    taints = [_unwelcome(agent, placement) for agent in agents]
    return Standing(
        instance_id=instance.instance_id,
        role=instance.role,
        agent_ids=tuple(draft.state.place_of(rank.agent_id) for rank in instance.ranks),
        group=instance.group,
        # One that came back after it had been replaced is the first to go.
        withdrawn=instance.state is InstanceState.WITHDRAWN or instance.replaced,
        idle=idle,
        gpu_type=instance.gpu_type,
        age=draft.now - instance.created_at,
        cordoned=draft.on_cordon(instance),
        sick=sickness(draft.state, instance),
        warmth=_warmth(track, draft.now),
        gpus=len(instance.ranks[0].gpu_indices),
        unwelcome=next(filter(None, taints), ""),
    )


def _unwelcome(agent: Agent | None, placement: PlacementSpec) -> str:
    """Return the taint that has an instance of the service leave a node, in words; empty: none."""
    if agent is None:
        return ""
    return unwelcome(agent.agent_id, agent.inventory.taints, placement.tolerations)


def _sickness(agent: Agent | None, rank: Rank) -> str:
    """Return what is wrong with the GPUs of a rank, in words; empty: nothing is known."""
    if agent is None or not agent.devices.suspect:
        return ""
    sick = sick_gpus(agent)
    # An agent within a job sees the job's GPUs alone, and counts them in its own way.
    own = sorted(sick) if rank.speaker else rank.gpu_indices
    found = [f"GPU {index}: {sick[index]}" for index in own if index in sick]
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


_NOBODY: Mapping[int, str] = {}
_PASSED = "it is passed over for a short while"
AT_ONCE = 250
"""Nodes that a turn reads anew without being asked: some ten milliseconds."""


def view(draft: Draft) -> FleetView:
    """Return the fleet as placement sees it, with what this turn has already taken deducted.

    It is kept from turn to turn; only the nodes that changed are read.
    """
    _read(draft, sorted(_stale(draft)))
    draft.state.seen.whole = True
    return draft.state.seen.view


def catch_up(draft: Draft) -> None:
    """Read some of the nodes that changed, so that few are left when the view is asked for."""
    seen = draft.state.seen
    # What this draft wrote is read again in the next turn anyway.
    _read(draft, sorted(_stale(draft) - seen.drafted)[:AT_ONCE])
    seen.whole |= not seen.stale


def behind(draft: Draft) -> bool:
    """Return whether more nodes are to be read anew than a turn should read at once."""
    seen = draft.state.seen
    return len(_stale(draft) - seen.drafted) > AT_ONCE


def _stale(draft: Draft) -> set[str]:
    seen = draft.state.seen
    if not seen.begun:
        seen.stale.update(draft.state.agents)
        seen.begun = True
    return seen.stale


def settle(draft: Draft) -> None:
    """End the turn: who reads the view before the next one must not see what may be dropped."""
    seen = draft.state.seen
    _read(Draft(draft.state, draft.now, draft.mint), sorted(seen.ahead))
    # They are read anew in the next turn, for by then the draft may have been committed.
    seen.ahead.clear()
    if seen.whole:
        seen.fragments = seen.view.fragments()


def _read(draft: Draft, agents: Sequence[str]) -> None:
    seen = draft.state.seen
    seen.ahead.update(seen.drafted.intersection(agents))
    for agent_id in agents:
        agent, before = draft.state.agents.get(agent_id), seen.view.node(agent_id)
        if agent is None or agent.within:
            # What stands in a node of a scheduler's cluster has that node's GPUs: offered once.
            changes = seen.view.remove(agent_id)
            seen.tell(agent_id, ())
        else:
            changes = seen.view.put(_node(draft, agent))
            seen.tell(agent_id, ((g.type, g.vendor) for g in agent.inventory.gpus if g.vendor))
        if changes:
            seen.note(draft.now, changes, _cause(agent_id, before, seen.view.node(agent_id)))
        seen.stale.discard(agent_id)


def _cause(agent_id: str, before: NodeView | None, after: NodeView | None) -> str:
    """Return what became of a node, in words."""
    if after is None:
        return f"{agent_id} went"
    types = ", ".join(sorted(set(after.gpu_types.values()))) or "no GPUs"
    if before is None:
        return f"{agent_id} came with {types}"
    return f"{agent_id} moved" if before.topology != after.topology else f"{agent_id} has {types}"


def vendors(draft: Draft) -> dict[str, str]:
    """Return the vendor of each GPU type, as far as agents tell; empty where all are of one."""
    view(draft)
    return draft.state.seen.vendors()


def nodes(draft: Draft) -> list[NodeView]:
    """Return every node as placement sees it, read anew: what ``view`` is held against."""
    every = sorted(draft.state.agents.items())
    return [_node(draft, agent) for _, agent in every if not agent.within]


def limits(
    draft: Draft, barred: Barred, avoid: Mapping[str, float], trial: int
) -> tuple[Limits, ...]:
    """Return what a service may not use, the stricter first: the last one is without what it avoids.

    ``avoid`` maps agents not to use to the time until when. ``trial``: GPUs that one instance takes,
    all that is offered where ``barred`` lets only one be tried.
    """
    plain = Limits(
        barred.nodes, frozenset(barred.types), barred.trial_nodes, barred.trial_types, trial
    )
    passed = {agent for agent, until in avoid.items() if until > draft.now}
    if not passed - barred.nodes.keys():
        return (plain,)
    shut = {**dict.fromkeys(sorted(passed), _PASSED), **barred.nodes}
    # Elsewhere is full: where a launch failed before is better than nowhere, after the backoff.
    return replace(plain, shut=shut), plain


def trials(node: NodeView, barred: Barred) -> tuple[bool, tuple[str, ...]]:
    """Return whether one instance alone may be tried on a node, and of which of its GPU types."""
    types = barred.trial_types.intersection(node.gpu_types.values())
    return node.agent_id in barred.trial_nodes, tuple(sorted(types))


def sickness(state: State, instance: Instance) -> str:
    """Return what is wrong with what an instance stands on, in words; empty: nothing is known."""
    found = (_sickness(state.agents.get(rank.voice), rank) for rank in instance.ranks)
    return next(filter(None, found), "")


def homes(draft: Draft, standing: Iterable[Standing]) -> list[NodeView]:
    """Return the nodes that instances stand on, as ``nodes`` would."""
    names = sorted({agent_id for one in standing for agent_id in one.agent_ids})
    known = (draft.state.agents.get(name) for name in names)
    return [_node(draft, agent) for agent in known if agent is not None]


def node(draft: Draft, agent: Agent, barred: Barred, avoid: Mapping[str, float]) -> NodeView:
    """Return one node as a service may use it, but for trials: to read a large fleet in pieces."""
    seen = _node(draft, agent)
    free = tuple(index for index in seen.free if seen.gpu_types[index] not in barred.types)
    why = barred.nodes.get(agent.agent_id, "")
    if not why and avoid.get(agent.agent_id, 0.0) > draft.now:
        why = _PASSED
    return replace(seen, free=free, usable=not (seen.why_not or why), why_not=seen.why_not or why)


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


def _node(draft: Draft, agent: Agent) -> NodeView:
    agent_id, indices = agent.agent_id, [gpu.index for gpu in agent.inventory.gpus]
    taken, others = held(draft, agent_id), {}
    if agent.holdings:
        counted = {
            one.instance_id
            for one in draft.instances_on(agent_id)
            if any(r.agent_id == agent_id and r.state not in life.ENDED for r in one.ranks)
        }
        for index, one in not_offered(agent.holdings, indices, taken, counted).items():
            instance = draft.instance(one.instance_id)
            if instance is not None and instance.state not in life.ENDED:
                taken.add(index)  # an agent within the node speaks for it
            else:
                others[index] = f"held by {one.holder}"
    return seen(agent, draft.closed(agent_id), taken, others)


def seen(
    agent: Agent, closed: Closed, taken: Collection[int], others: Mapping[int, str] = _NOBODY
) -> NodeView:
    """Return a node as placement sees it, by what is cordoned of it and which GPUs are taken.

    ``others``: GPUs that others hold, and who.
    """
    why = closed.node.text if closed.node is not None else agent.closed
    if not agent.connected or agent.silent:
        why = "not connected"
    shut = {**others, **closed_gpus(agent), **dict.fromkeys(closed.indices, "cordoned")}
    types = {gpu.index: gpu.type for gpu in agent.inventory.gpus}
    return NodeView(
        agent_id=agent.agent_id,
        hostname=agent.hostname,
        topology=agent.inventory.topology,
        gpu_types=types,
        free=tuple(sorted(types.keys() - set(taken) - shut.keys())),
        templates=frozenset(template.name for template in agent.inventory.templates),
        usable=not why,
        why_not=why,
        closed={index: why for index, why in sorted(shut.items()) if index not in taken},
        neighbourhoods={
            gpu.index: gpu.numa_node for gpu in agent.inventory.gpus if gpu.numa_node is not None
        },
        links={
            gpu.index: gpu.nvlink_group
            for gpu in agent.inventory.gpus
            if gpu.nvlink_group is not None
        },
        limping=limping_gpus(agent),
        taints=agent.inventory.taints,
    )
