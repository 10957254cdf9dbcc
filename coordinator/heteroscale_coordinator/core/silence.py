"""What silence means: an agent unheard is UNKNOWN, then LOST; many at once are a partition.

Rules (design §5): one silent agent's instances are UNKNOWN, still counted and occupying their GPUs;
later LOST, and replaced. When more than a fifth of the agents, or of a domain, fall silent in one
window it is a partition, not deaths: all stay UNKNOWN, nothing is replaced, and it is said aloud.
One agent alone is never a partition, however small the fleet.

An agent that this coordinator has never heard may still be waiting for its next try to connect: it
is not LOST before ``cover_for`` has passed, however short ``lost_after`` is.
"""

from __future__ import annotations

from collections import defaultdict

from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.state import Agent, State

_LEAST = 2
"""A partition takes at least so many agents."""


def excuse_own_absence(state: State, now: float) -> None:
    """Move all agents' clocks on when it was the coordinator that was away (stopped, starved)."""
    away = now - state.turned_at
    if away > max(state.rules.tick, state.rules.silent_after / 2):
        for agent in state.agents.values():
            agent.heard_at += away
    state.turned_at = now


def age(draft: Draft) -> None:
    """Mark what has been silent too long, unless too many are silent at once."""
    state, rules = draft.state, draft.state.rules
    silent = [
        agent
        for agent in state.agents.values()
        if not agent.lost and draft.now - agent.heard_at > rules.silent_after
    ]
    state.partition = partitioned(state, silent)
    for agent in silent:
        if not agent.silent:
            state.set_silence(agent, silent=True, lost=False)
            _fall_silent(draft, agent)
        patience = rules.lost_after if agent.heard else max(rules.lost_after, rules.cover_for)
        if not state.partition and draft.now - agent.heard_at > patience:
            state.set_silence(agent, silent=True, lost=True)
            for instance in draft.instances_on(agent.agent_id):
                message = f"agent {agent.agent_id} silent for {draft.now - agent.heard_at:.0f} s"
                draft.put_instance(life.give_up(instance, draft.now, message))


def partitioned(state: State, silent: list[Agent]) -> str:
    """Return the sentence that says it is a partition; empty when it is none."""
    if len(silent) < _LEAST:
        return ""
    share = state.rules.partition_share
    present = [agent for agent in state.agents.values() if not agent.lost]
    if len(silent) > share * len(present):
        return f"partition: {len(silent)} of {len(present)} agents silent; nothing is replaced"
    domains: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    quiet = {agent.agent_id for agent in silent}
    for agent in present:
        for level in ("s1", "s2"):
            if (name := agent.inventory.topology.get(level)) is not None:
                counts = domains[f"{level}={name}"]
                counts[0] += agent.agent_id in quiet
                counts[1] += 1
    for domain, (missing, total) in sorted(domains.items()):
        if missing >= _LEAST and missing > share * total:
            return f"partition: {missing} of {total} agents of {domain} silent; nothing is replaced"
    return ""


def _fall_silent(draft: Draft, agent: Agent) -> None:
    message = f"agent {agent.agent_id} silent since {draft.now - agent.heard_at:.0f} s"
    for instance in draft.instances_on(agent.agent_id):
        draft.put_instance(life.fall_silent(instance, draft.now, message))
