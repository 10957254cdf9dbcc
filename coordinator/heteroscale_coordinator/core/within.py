"""Agents within scheduler's jobs: each stands for one rank, which the coordinator placed on a node.

A rank stands on its adapter's node, before and after: placement, quotas and cordons speak of nodes. Once
the agent within its job is heard it is the rank's *voice*: it gets the launch that the job was submitted
for, tells how the rank is, and takes its orders. Of a rank that has a voice its node tells two things
alone: where it stands, and that its job has ended. Where that voice is still heard only the scheduler
has lost the job (its daemon on that node died): it is succeeded and drained, as at a time limit.

An agent that came in vain (its instance was given up, or another stands for it) is told to go.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState
from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core.command import issue
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import AgentConnected
from heteroscale_coordinator.core.model import (
    Command,
    Instance,
    Rank,
    RankFact,
    StandsFor,
    Verb,
)

_COMES_IN = frozenset(
    {
        InstanceState.PENDING,
        InstanceState.LAUNCHING,
        InstanceState.WARMING,
        InstanceState.IN_SERVICE,
        InstanceState.UNKNOWN,
    }
)
"""States of an instance in which a job that begins is of use: that of one which serves was requeued."""


def arrived(draft: Draft, event: AgentConnected, claim: StandsFor) -> None:
    """Make an agent the voice of its rank and send it what its job is for, or send it home."""
    facts = (fact for fact in event.facts if fact.instance_id == claim.instance_id)
    fact = next(facts, None)
    instance = draft.instance(claim.instance_id)
    if instance is None and fact is not None:
        return  # a fact, not a stranger: it is adopted with its voice
    why = _in_vain(draft, instance, event.agent_id, claim, runs=fact is not None)
    if why or instance is None:
        generation = fact.generation if fact is not None else 0
        _send_home(draft, event.agent_id, claim, why, generation)
        return
    known = instance.ranks[claim.rank]
    if fact is None:
        instance = _begun(draft, instance, claim, event.agent_id)
        _launch(draft, instance)
    elif known.speaker != event.agent_id:
        draft.put_instance(_with(instance, claim.rank, _spoken(known, claim, event.agent_id)))


def awaited(instance: Instance, number: int) -> bool:
    """Return whether a rank has a voice that waits for its launch: its leader has not come yet."""
    rank = instance.ranks[number]
    return bool(rank.speaker) and not rank.generation and not _leader_came(instance)


def superseded(instance: Instance, command: Command) -> bool:
    """Return whether an order to start a rank is the node's, while the rank's own agent has come."""
    speaker = instance.ranks[command.rank].speaker
    return bool(speaker) and command.agent_id != speaker


def outlives(draft: Draft, instance: Instance, agent_id: str, fact: RankFact) -> bool:
    """Return whether a node tells the end of a rank whose voice is heard, and says that it lives."""
    if fact.state not in life.ENDED or fact.rank >= len(instance.ranks):
        return False
    rank = instance.ranks[fact.rank]
    if rank.speaker in ("", agent_id) or rank.state in life.ENDED:
        return False
    speaker = draft.state.agents.get(rank.speaker)
    return speaker is not None and speaker.connected and not speaker.silent


def disowned(instance: Instance, fact: RankFact, now: float) -> Instance:
    """Return ``instance``, whose scheduler has lost its job: it ends any moment, and serves until then.

    Its GPUs are the scheduler's to give to others; ended by our word alone it would serve on uncounted.
    """
    if instance.ends_at is not None and instance.ends_at <= now:
        return instance
    lost = f"{fact.message or 'its job is over'}; its agent is still heard"
    return replace(instance, ends_at=now, message=lost)


def forget_ended(draft: Draft) -> None:
    """Forget agents that went as their jobs ended: they are no nodes that fell silent."""
    for agent in tuple(draft.state.agents.values()):
        if agent.stands_for is None or agent.connected:
            continue
        ranks = (rank for one in draft.instances_on(agent.agent_id) for rank in one.ranks)
        if all(r.speaker != agent.agent_id or r.state in life.ENDED for r in ranks):
            draft.state.forget_agent(agent.agent_id)


def _in_vain(
    draft: Draft, instance: Instance | None, agent_id: str, claim: StandsFor, *, runs: bool
) -> str:
    """Return why nobody needs this agent, in words; empty: it is awaited."""
    if instance is None:
        return "nobody knows of its instance"
    if why := _not_its_own(draft, instance, agent_id, claim):
        return why
    # What runs is judged as on any host, unless it was stopped already.
    unfit = instance.state not in _COMES_IN or instance.replaced
    if instance.state is InstanceState.TERMINATED or (unfit and not runs):
        return f"its instance is {'replaced' if instance.replaced else instance.state}"
    homes = (instance.ranks[claim.rank].agent_id, instance.ranks[claim.rank].voice)
    orders = (c for c in draft.commands_of(instance.instance_id) if c.agent_id in homes)
    stopping = any(c.verb in (Verb.TERMINATE, Verb.DRAIN) for c in orders)
    return "its instance is being stopped" if stopping and not runs else ""


def _not_its_own(draft: Draft, instance: Instance, agent_id: str, claim: StandsFor) -> str:
    """Return why a rank is not this agent's, in words; empty: it is."""
    if claim.rank >= len(instance.ranks):
        return f"its instance has no rank {claim.rank}"
    rank = instance.ranks[claim.rank]
    if rank.agent_id and _cluster(rank.agent_id) != _cluster(claim.within):
        return f"its instance stands on {rank.agent_id}, it is within {claim.within}"
    other = draft.state.agents.get(rank.speaker) if rank.speaker != agent_id else None
    if other is not None and not other.silent:
        return f"agent {rank.speaker} stands for its instance"
    return ""


def _send_home(
    draft: Draft, agent_id: str, claim: StandsFor, why: str, expected_generation: int
) -> None:
    """Tell an agent that came in vain to end; not twice."""
    for told in draft.commands_of(claim.instance_id):
        if told.verb is Verb.TERMINATE and told.agent_id == agent_id:
            return
    instance = draft.instance(claim.instance_id)
    deadline = draft.state.rules.command_deadline
    draft.put_command(
        Command(
            command_id=draft.mint("cmd"),
            verb=Verb.TERMINATE,
            agent_id=agent_id,
            instance_id=claim.instance_id,
            service=instance.service if instance is not None else "",
            cause=f"not needed: {why}",
            expected_generation=expected_generation,
            created_at=draft.now,
            expires_at=draft.now + deadline,
            rank=claim.rank,
        )
    )


def _begun(draft: Draft, instance: Instance, claim: StandsFor, agent_id: str) -> Instance:
    """Return ``instance`` with a rank whose job has begun, or begins anew."""
    known = instance.ranks[claim.rank]
    asked = any(
        c.verb is Verb.LAUNCH and c.agent_id == agent_id
        for c in draft.commands_of(instance.instance_id)
    )
    if asked and not known.generation:
        return instance  # only its stream was lost: the order that it has not answered stands
    rank = _spoken(known, claim, agent_id)
    again = bool(known.speaker)
    if again:
        rank = replace(rank, state=InstanceState.PENDING)
    begun = replace(_with(instance, claim.rank, rank), silent_from=None)
    if again:
        begun = replace(life.settle(begun, draft.now, "its job runs again"), startup_time=None)
    elif instance.silent_from is not None:
        begun = life.settle(begun, draft.now, "its job is heard")
    draft.put_instance(begun)
    return begun


def _launch(draft: Draft, instance: Instance) -> None:
    """Order the launch of each rank that has a voice and none yet; others wait for their leader."""
    if not _leader_came(instance):
        return
    open_ones = [c for c in draft.commands_of(instance.instance_id) if c.verb is Verb.LAUNCH]
    for number, rank in enumerate(instance.ranks):
        if not rank.speaker or rank.generation:
            continue
        if any(c.agent_id == rank.speaker and c.rank == number for c in open_ones):
            continue
        first = _first_order(draft, instance, number)
        issue(
            draft,
            Verb.LAUNCH,
            instance,
            first.cause if first is not None else instance.cause,
            rank=number,
            reason=first.reason if first is not None else None,
            lease=first.lease if first is not None else None,
        )


def _first_order(draft: Draft, instance: Instance, number: int) -> Command | None:
    """Return the order that its job was submitted for: how it was to start."""
    known = {c.command_id: c for c in draft.state.commands.values()}
    known |= {c.command_id: c for c in draft.commands_of(instance.instance_id)}
    mine = (
        c
        for c in known.values()
        if c.verb is Verb.LAUNCH and c.instance_id == instance.instance_id and c.rank == number
    )
    return min(mine, key=lambda c: (c.created_at, c.command_id), default=None)


def _leader_came(instance: Instance) -> bool:
    return bool(instance.ranks[0].speaker)


def _spoken(rank: Rank, claim: StandsFor, agent_id: str) -> Rank:
    """Return ``rank`` with ``agent_id`` as its voice, which counts generations in its own way."""
    return replace(rank, agent_id=rank.agent_id or claim.within, generation=0, speaker=agent_id)


def _with(instance: Instance, number: int, rank: Rank) -> Instance:
    ranks = (*instance.ranks[:number], rank, *instance.ranks[number + 1 :])
    return replace(instance, ranks=ranks)


def _cluster(node: str) -> str:
    return node.partition("/")[0]
