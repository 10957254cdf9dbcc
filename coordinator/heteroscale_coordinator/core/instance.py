"""The life of an instance as the coordinator sees it: a table of edges, and how facts move along it.

The agent of rank 0 owns an instance's true state; the coordinator mirrors it, and adds what only it
can know: PENDING (asked for), UNKNOWN and LOST (silent). A fact always wins over a belief, so the
table speaks of which changes are *expected*; an unexpected one is taken and said aloud.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Instance, Rank, RankFact

EDGES: dict[S, frozenset[S]] = {
    S.PENDING: frozenset(
        {
            S.LAUNCHING,  # the agent has started the process
            S.FAILED,  # refused, expired, or the process ended at once
            S.UNKNOWN,  # the agent fell silent with the launch on its way
            S.TERMINATED,  # taken back before it was started
        }
    ),
    S.LAUNCHING: frozenset(
        {
            S.WARMING,  # the engine answers; its gate is being opened
            S.IN_SERVICE,  # ready with its gate open, as a cluster's scheduler starts it
            S.WITHDRAWN,  # ready, held for the ratio
            S.DRAINING,  # stopped before it was ready
            S.FAILED,  # the process ended, or the start-up deadline passed
            S.PENDING,  # its job runs again
            S.UNKNOWN,
            S.TERMINATED,
        }
    ),
    S.WARMING: frozenset(
        {
            S.IN_SERVICE,  # a router lists it
            S.WITHDRAWN,  # ratio hold, or an operator
            S.DRAINING,
            S.FAILED,
            S.PENDING,
            S.UNKNOWN,
            S.TERMINATED,
        }
    ),
    S.IN_SERVICE: frozenset(
        {
            S.WITHDRAWN,  # soft scale-in, operator, maintenance, sick
            S.DRAINING,  # an operator's drain, without a withdrawal before
            S.WARMING,  # every router lost it; its gate is being opened again
            S.FAILED,
            S.PENDING,  # its job was requeued and runs again
            S.UNKNOWN,
            S.TERMINATED,
        }
    ),
    S.WITHDRAWN: frozenset(
        {
            S.WARMING,  # reinstated; its gate is being opened
            S.IN_SERVICE,  # reinstated, or its lease ended
            S.DRAINING,  # the scale-in is carried through
            S.FAILED,
            S.UNKNOWN,
            S.TERMINATED,
        }
    ),
    S.DRAINING: frozenset(
        {
            S.TERMINATED,  # quiescent, TERM, gone
            S.WARMING,  # called back before TERM
            S.IN_SERVICE,  # called back before TERM, or its lease ended
            S.WITHDRAWN,  # called back to wait
            S.FAILED,  # the process died while draining
            S.UNKNOWN,
        }
    ),
    S.UNKNOWN: frozenset(S),  # whatever it was when its agent is heard again, or LOST
    S.LOST: frozenset(S) - {S.PENDING},  # its agent came back after all
    S.FAILED: frozenset(),
    S.TERMINATED: frozenset(),
}
"""From a state to those that are expected to follow it."""

ENDED = frozenset({S.FAILED, S.TERMINATED})


def expected(before: S, after: S) -> bool:
    """Return whether the table has the edge, or nothing changes."""
    return before is after or after in EDGES[before]


def adopt(fact: RankFact, agent_id: str, gpu_type: str, now: float, node: str = "") -> Instance:
    """Return a new record for an instance that was not known: a fact, not a stranger.

    ``node``: of an agent within a job, on which node that is.
    """
    count = max(fact.rank_count, fact.rank + 1)
    mine = Rank(node, fact.gpu_indices, speaker=agent_id) if node else Rank("", ())
    blank = tuple(mine if number == fact.rank else Rank("", ()) for number in range(count))
    instance = Instance(
        instance_id=fact.instance_id,
        service=fact.service,
        role=fact.role,
        ranks=blank,
        state=fact.state,
        generation=0,
        created_at=now - fact.state_age,
        changed_at=now - fact.state_age,
        template=fact.template,
        group=fact.group,
        gpu_type=gpu_type,
        origin=fact.origin or "found",
    )
    return fold(instance, fact, agent_id, now)


def fold(
    instance: Instance, fact: RankFact, agent_id: str, now: float, cause: str = ""
) -> Instance:
    """Return ``instance`` with an agent's word on one of its ranks; an older word changes nothing."""
    if fact.rank >= len(instance.ranks) or instance.state is S.TERMINATED:
        return instance
    known = instance.ranks[fact.rank]
    if known.speaker and known.speaker != agent_id:
        return _of_job(_limited(instance, fact), fact, agent_id, now)
    if fact.generation < known.generation and known.voice == agent_id:
        return instance
    told = replace(known, state=fact.state, generation=fact.generation)
    if not known.speaker:
        gpus = fact.gpu_indices or known.gpu_indices
        told = replace(told, agent_id=agent_id, gpu_indices=gpus)
    ranks = (*instance.ranks[: fact.rank], told, *instance.ranks[fact.rank + 1 :])
    back = instance.replaced or instance.state is S.LOST
    instance = replace(instance, ranks=ranks, silent_from=None, replaced=back)
    if not known.speaker:
        instance = _limited(instance, fact)
    if fact.rank == 0:
        instance = _speak(instance, fact, cause)
    return settle(instance, now, fact.message)


def _limited(instance: Instance, fact: RankFact) -> Instance:
    """Return ``instance`` with the end and the turn that its node tells; agents in jobs know of none."""
    if fact.rank or fact.state in ENDED:
        return instance
    return replace(instance, ends_at=fact.ends_at, turn=fact.turn)


def _of_job(instance: Instance, fact: RankFact, agent_id: str, now: float) -> Instance:
    """Return ``instance`` with a node's word on a rank that has a speaker: where it is, and its end."""
    known = instance.ranks[fact.rank]
    if fact.state not in ENDED:
        gpus = fact.gpu_indices or known.gpu_indices
        moved = replace(known, agent_id=agent_id, gpu_indices=gpus)
        ranks = (*instance.ranks[: fact.rank], moved, *instance.ranks[fact.rank + 1 :])
        return replace(instance, ranks=ranks)
    if known.state in ENDED:
        return instance
    return end_rank(instance, fact.rank, fact.state, now, fact.message)


def _speak(instance: Instance, fact: RankFact, cause: str) -> Instance:
    """Rank 0 speaks for the instance."""
    return replace(
        instance,
        role=_role(instance.role, fact.role),
        generation=fact.generation,
        reason=fact.reason,
        gate_state=fact.gate_state,
        endpoint=fact.endpoint or instance.endpoint,
        message=fact.message,
        terminating=fact.terminating,
        startup_time=instance.startup_time or fact.startup_time,
        cause=cause or instance.cause,
    )


def _role(known: Role, told: Role) -> Role:
    """Return what an instance does now: a running engine may have switched between the two halves.

    Any other change is none that can be; what was known stays, for its service has no such role.
    """
    return told if {known, told} == {Role.PREFILL, Role.DECODE} else known


def end_rank(instance: Instance, rank: int, state: S, now: float, message: str) -> Instance:
    """Return ``instance`` with one rank ended by the coordinator's own conclusion."""
    ended = replace(instance.ranks[rank], state=state)
    ranks = (*instance.ranks[:rank], ended, *instance.ranks[rank + 1 :])
    return settle(replace(instance, ranks=ranks, silent_from=None), now, message)


def hush(after: Instance, before: Instance) -> Instance:
    """Return ``after`` still as silent as ``before``: another rank's agent is unheard."""
    if before.state not in (S.UNKNOWN, S.LOST) or after.state in ENDED:
        return after
    return replace(after, state=before.state, silent_from=after.state, changed_at=before.changed_at)


def settle(instance: Instance, now: float, message: str = "") -> Instance:
    """Return ``instance`` in the state that its ranks make together."""
    states = [rank.state for rank in instance.ranks]
    state = states[0]
    leaving = state in (S.DRAINING, S.TERMINATED)
    if S.FAILED in states or (S.TERMINATED in states and not leaving):
        state = S.FAILED  # a lost rank fails the instance
    elif state is S.TERMINATED and any(s is not S.TERMINATED for s in states):
        state = S.DRAINING  # the other ranks are still being stopped
    return become(instance, state, now, message or instance.message)


def become(instance: Instance, state: S, now: float, message: str) -> Instance:
    """Return ``instance`` in ``state``; the time of change moves only with the state."""
    if state is instance.state:
        return replace(instance, message=message)
    if not expected(instance.state, state):
        message = f"{message} (unexpected: {instance.state} → {state})".strip()
    return replace(instance, state=state, changed_at=now, message=message)


def fall_silent(instance: Instance, now: float, message: str) -> Instance:
    """Return ``instance`` as UNKNOWN: still counted, still occupying its GPUs."""
    if instance.state in ENDED or instance.state in (S.UNKNOWN, S.LOST):
        return instance
    silent = become(instance, S.UNKNOWN, now, message)
    return replace(silent, silent_from=instance.state)


def give_up(instance: Instance, now: float, message: str) -> Instance:
    """Return ``instance`` as LOST: no longer counted, to be replaced."""
    return become(instance, S.LOST, now, message) if instance.state is S.UNKNOWN else instance


def hear_again(instance: Instance, now: float) -> Instance:
    """Return ``instance`` as it was before its agent fell silent; facts that follow correct it."""
    if instance.silent_from is None or instance.state not in (S.UNKNOWN, S.LOST):
        return instance
    back = become(instance, instance.silent_from, now, "heard again")
    replaced = instance.replaced or instance.state is S.LOST
    return replace(back, silent_from=None, replaced=replaced)
