"""What silence means: an agent unheard is UNKNOWN, then LOST; many at once are a partition.

Rules (design §5): one silent agent's instances are UNKNOWN, still counted and occupying their GPUs;
later LOST, and replaced. When more than a fifth of the agents, or of a domain, fall silent in one
window it is a partition, not deaths: theirs stay UNKNOWN, are not replaced, and it is said aloud. One
agent alone is never a partition, however small the fleet (ADR 4).

After a partition agents come back one by one. The last of them are few, but no more dead than before:
time in a partition is no silence of theirs.

All of it is level-triggered: each tick looks at who is silent now and at what the instances are, so a
commit that failed, or a fact that came in between, loses nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable

from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import Instance
from heteroscale_coordinator.core.state import Agent, State

_LEAST = 2
"""A partition takes at least so many agents."""


def excuse_own_absence(state: State, now: float) -> None:
    """Move all agents' clocks on when it was the coordinator that was away (stopped, starved)."""
    away = now - state.turned_at
    if away > max(state.rules.tick, state.rules.silent_after / 2):
        for agent in state.agents.values():
            agent.heard_at += away
            agent.excused_at += away
    state.turned_at = now


def age(draft: Draft) -> None:
    """Mark what has been silent too long, and take back what is heard again."""
    state = draft.state
    for agent in state.agents.values():
        quiet = draft.now - agent.heard_at > state.rules.silent_after
        if quiet is not agent.silent:
            agent.silent = quiet
            state.seen.touch(agent.agent_id)
        agent.lost = agent.silent and _out_of_patience(draft, agent)
    silent = [agent for agent in state.agents.values() if agent.silent]
    state.cut_off = cut_off(state, silent)
    for instance_id in tuple(state.hushed):
        instance = draft.instance(instance_id)
        if instance is not None and not hushed(state, instance):
            draft.put_instance(life.hear_again(instance, draft.now))
    for agent in silent:
        if agent.agent_id in state.cut_off:
            agent.excused_at, agent.lost = draft.now, False
        _mark(draft, agent)


def hushed(state: State, instance: Instance) -> bool:
    """Return whether any rank's voice is silent; a node whose job speaks for itself may be."""
    agents = (state.agents.get(rank.voice) for rank in instance.ranks)
    return any(agent is not None and agent.silent for agent in agents)


def cut_off(state: State, silent: list[Agent]) -> dict[str, str]:
    """Return the agents that are part of a partition, and the sentence that says which."""
    found: dict[str, str] = {}
    if len(silent) >= _LEAST:
        for where, members in _domains(state.agents.values()).items():
            for agent_id, number, total in _bursts(state, members):
                text = f"partition: {number} of {total} agents{where} silent; nothing is replaced"
                found.setdefault(agent_id, text)
    return found


def _bursts(state: State, members: list[Agent]) -> Iterable[tuple[str, int, int]]:
    """Yield the silent whose window of silence holds more than the share, with both numbers.

    The window is ``lost_after`` to either side. Who fell silent at another time is simply gone: it
    counts neither as silent nor as present.
    """
    moments = sorted(agent.heard_at for agent in members if agent.silent)
    heard, window = len(members) - len(moments), state.rules.lost_after
    for agent in members:
        if not agent.silent:
            continue
        first = bisect_left(moments, agent.heard_at - window)
        number = bisect_right(moments, agent.heard_at + window) - first
        total = heard + number
        if number >= _LEAST and number > state.rules.partition_share * total:
            yield agent.agent_id, number, total


def _domains(agents: Iterable[Agent]) -> dict[str, list[Agent]]:
    groups: dict[str, list[Agent]] = defaultdict(list)
    for agent in agents:
        groups[""].append(agent)
        for level in ("s1", "s2", "physical_cluster"):
            if (name := agent.inventory.topology.get(level)) is not None:
                groups[f" of {level}={name}"].append(agent)
    return groups


def _out_of_patience(draft: Draft, agent: Agent) -> bool:
    """Return whether an agent is to be given up.

    One never heard, or cut off until now, may be on its way to us: it waits for its next try.
    """
    rules = draft.state.rules
    on_its_way = not agent.heard or agent.excused_at > agent.heard_at
    patience = max(rules.lost_after, rules.cover_for) if on_its_way else rules.lost_after
    return draft.now - max(agent.heard_at, agent.excused_at) > patience


def _mark(draft: Draft, agent: Agent) -> None:
    message = f"agent {agent.agent_id} silent for {draft.now - agent.heard_at:.0f} s"
    for instance in draft.instances_on(agent.agent_id):
        if not instance.told_by(agent.agent_id):
            continue
        marked = life.fall_silent(instance, draft.now, message)
        if agent.lost:
            marked = life.give_up(marked, draft.now, message)
        draft.put_instance(marked)
