"""The life of a command: issued by a turn, sent after its commit, ended by the agent or its deadline.

``OPEN → ACCEPTED → DONE | REFUSED | FAILED | UNKNOWN | EXPIRED``. What a command needs beyond the
record (gate, template, drain settings) is read from the service's specification when it is sent.
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Outcome, Role, WithdrawReason
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.model import (
    ANSWERED,
    Command,
    CommandState,
    Instance,
    Verb,
)


def issue(
    draft: Draft,
    verb: Verb,
    instance: Instance,
    cause: str,
    *,
    rank: int = 0,
    reason: WithdrawReason | None = None,
    lease: float | None = None,
    role: Role | None = None,
) -> Command:
    """Write a new open command for one rank of ``instance``; it leaves after the commit."""
    known = instance.ranks[rank]
    command = Command(
        command_id=draft.mint("cmd"),
        verb=verb,
        agent_id=known.voice,
        instance_id=instance.instance_id,
        service=instance.service,
        cause=cause,
        expected_generation=0 if verb is Verb.LAUNCH else known.generation,
        created_at=draft.now,
        expires_at=draft.now + draft.state.rules.command_deadline,
        rank=rank,
        reason=reason,
        lease=lease,
        role=role,
    )
    draft.put_command(command)
    return command


def busy(draft: Draft, instance: Instance) -> bool:
    """Return whether an order is under way that the next one should wait for."""
    return any(
        command.state is CommandState.OPEN for command in draft.commands_of(instance.instance_id)
    )


def switching_to(draft: Draft, instance: Instance) -> Role | None:
    """Return the role that an order under way has it change to; None: there is no such order."""
    orders = draft.commands_of(instance.instance_id)
    return next((c.role for c in orders if c.verb is Verb.SWITCH_ROLE), None)


def draining(draft: Draft, instance: Instance) -> bool:
    """Return whether a drain of ours is open or accepted."""
    return any(c.verb is Verb.DRAIN for c in draft.commands_of(instance.instance_id))


def answer(draft: Draft, command: Command, outcome: Outcome, message: str) -> Command:
    """Note an agent's word. An ended command keeps its first ending."""
    if command.ended:
        return command
    command = replace(command, state=ANSWERED[outcome], message=message)
    draft.put_command(command)
    return command


def end(draft: Draft, command: Command, state: CommandState, message: str) -> None:
    """End a command without the agent's word."""
    if not command.ended:
        draft.put_command(replace(command, state=state, message=message))


def expire(draft: Draft) -> list[Command]:
    """End open commands whose deadline has passed, and return them.

    Accepted ones have no deadline of their own: the agent works on them, and facts tell the end.
    """
    gone: list[Command] = []
    for ids in draft.state.open_commands.values():
        for command_id in ids:
            command = draft.command(command_id)
            if command is None or command.state is not CommandState.OPEN:
                continue
            if draft.now > _given_up_at(draft, command):
                gone.append(command)
    for command in gone:
        end(draft, command, CommandState.EXPIRED, "no answer before its deadline")
    return gone


def _given_up_at(draft: Draft, command: Command) -> float:
    """Return until when the agent's word on an open command is waited for.

    The agent refuses it from ``expires_at`` on; a moment more lets its last word arrive. A new
    coordinator first lets the agent connect and say what became of it: it may have been carried out.
    """
    state, rules = draft.state, draft.state.rules
    agent = state.agents.get(command.agent_id)
    connecting = rules.silent_after if agent is not None and agent.heard else rules.cover_for
    return max(command.expires_at + rules.silent_after, state.started_at + connecting)
