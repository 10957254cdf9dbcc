"""Carries out a command at most once: check, journal, act, journal, answer.

A repeated id gets its answer again, also while the first one is still being carried out. An epoch
lower than one heard, a deadline that has passed and a generation that is not the instance's are
refused. A refusal is journaled like any other answer: what was refused once is never done later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from heteroscale.words import InstanceState, Outcome, Role, WithdrawReason
from heteroscale_agent.allowlist import RefusedError
from heteroscale_agent.instances import IllegalChangeError, Instance, Record, Switch, moved
from heteroscale_agent.job.claim import Post
from heteroscale_agent.journal import JournalError
from heteroscale_agent.launcher import Launcher
from heteroscale_agent.leases import complaint, stays_out
from heteroscale_agent.ledger import KEEP_ANSWERS, Entry, epoch_entry, result_entry
from heteroscale_agent.life import switch_given_up
from heteroscale_agent.model import (
    Command,
    CommandResult,
    Drain,
    Launch,
    Reinstate,
    SwitchRole,
    Terminate,
    Withdraw,
)
from heteroscale_agent.registry import Registry

_log = structlog.get_logger(__name__)
_S = InstanceState


class Executor:
    """Carries out commands; commands on one instance one after the other."""

    def __init__(
        self,
        registry: Registry,
        launcher: Launcher,
        wall: Callable[[], float],
        post: Post | None = None,
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._wall = wall
        self._post = post
        self._running: dict[str, asyncio.Task[CommandResult]] = {}

    async def execute(self, command: Command) -> CommandResult:
        """Return the answer to ``command``. A caller that goes away does not stop it."""
        task = self._running.get(command.command_id)
        if task is None:
            known = self._registry.journal.answer(command.command_id)
            if known is not None:
                return self._with_status(known, command)
            task = asyncio.create_task(self._answer(command), name=f"command {command.command_id}")
            self._running[command.command_id] = task
            task.add_done_callback(lambda _: self._running.pop(command.command_id, None))
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Wait for commands that are being carried out."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _answer(self, command: Command) -> CommandResult:
        try:
            result = await self._carry_out(command)
        except JournalError as error:
            why = f"journal cannot be written: {error}"
            post = self._post
            if post is not None and command.instance_id not in self._registry.instances:
                post.refused = why  # the coordinator tries elsewhere: nothing comes after this
            result = await self._refuse(command, why)
        except (RefusedError, IllegalChangeError) as error:
            result = await self._refuse(command, str(error))
        except Exception as error:  # noqa: BLE001 - every command gets an answer
            # A fault of ours: whether it was carried out is not known, and that is the answer.
            _log.exception("command.fault", command=command.command_id)
            result = CommandResult(command.command_id, Outcome.UNKNOWN, f"agent fault: {error!r}")
            await self._registry.note([self._entry(command, result)])
        return self._with_status(result, command)

    async def _refuse(self, command: Command, why: str) -> CommandResult:
        result = CommandResult(command.command_id, Outcome.REFUSED, why)
        await self._registry.note([self._entry(command, result)])
        return result

    async def _carry_out(self, command: Command) -> CommandResult:
        heard = self._registry.epoch
        if command.epoch < heard:
            raise RefusedError(f"epoch {command.epoch} is over: epoch {heard} has been heard")
        if command.epoch > self._registry.journal.epoch:
            await self._registry.append([epoch_entry(command.epoch)])
        action = command.action
        if isinstance(action, Launch):
            self._check_deadline(command)
            return await self._launcher.launch(command, action, self._keep(command))
        instance = self._registry.instances.get(command.instance_id)
        if instance is None:
            if self._post is not None and isinstance(action, Terminate):
                return await self._dismissed(command, self._post)
            raise RefusedError(f"no instance {command.instance_id[:140]!r} on this host")
        if instance.record.origin:
            raise RefusedError(
                f"{command.instance_id} is not for this agent to command "
                f"(origin {instance.record.origin}): {instance.record.message}"
            )
        async with instance.lock:
            self._check_deadline(command)
            self._check_generation(command, instance.record)
            return await self._change(command, instance)

    def _check_deadline(self, command: Command) -> None:
        late = self._registry.clock() - command.expires_at
        if late > 0:
            raise RefusedError(f"came {late:.1f} s after its deadline")

    @staticmethod
    def _check_generation(command: Command, record: Record) -> None:
        if command.expected_generation != record.generation:
            raise RefusedError(
                f"stale: expects generation {command.expected_generation}, "
                f"the instance is at {record.generation} ({record.state})"
            )

    async def _change(self, command: Command, instance: Instance) -> CommandResult:
        match command.action:
            case Withdraw() as withdraw:
                return await self._withdraw(command, instance, withdraw)
            case Reinstate():
                return await self._reinstate(command, instance)
            case Drain() as drain:
                return await self._drain(command, instance, drain)
            case Terminate() as terminate:
                return await self._terminate(command, instance, terminate)
            case SwitchRole() as switch:
                return await self._switch(command, instance, switch)
            case _:
                raise RefusedError("no such command for an instance that exists")

    async def _dismissed(self, command: Command, post: Post) -> CommandResult:
        """Take it that nobody needs what this agent is there for, and has not started."""
        if command.instance_id != post.claim.instance_id:
            raise RefusedError(f"this agent stands for {post.claim.instance_id} alone")
        post.dismissed = command.cause or "told to go"
        result = CommandResult(command.command_id, Outcome.DONE, "it goes, and its job with it")
        await self._registry.note([self._entry(command, result)])
        return result

    # ---- changes ----

    async def _withdraw(
        self, command: Command, instance: Instance, action: Withdraw
    ) -> CommandResult:
        record, now = instance.record, self._registry.clock()
        if record.state not in (_S.WARMING, _S.IN_SERVICE, _S.WITHDRAWN) or record.terminating:
            raise RefusedError(f"cannot withdraw an instance that is {_standing_of(record)}")
        if wrong := complaint(action.reason, action.lease):
            raise RefusedError(wrong)
        _refuse_while_switching(record)
        soft = action.reason is WithdrawReason.SOFT_SCALE_IN
        held = action.reason is WithdrawReason.RATIO_HOLD and action.lease is not None
        after = moved(
            record,
            _S.WITHDRAWN,
            now,
            f"withdrawn: {action.reason}",
            withdraw_reason=action.reason,
            lease=action.lease if soft else None,
            hold_until_at=now + (action.lease or 0.0) if held else None,
            cause=command.command_id,
        )
        return await self._decide(command, instance, after, Outcome.DONE)

    async def _reinstate(self, command: Command, instance: Instance) -> CommandResult:
        record = instance.record
        if record.state is _S.IN_SERVICE:
            return await self._decide(command, instance, record, Outcome.DONE)
        if record.state not in (_S.WITHDRAWN, _S.DRAINING) or record.terminating:
            raise RefusedError(f"cannot reinstate an instance that is {_standing_of(record)}")
        if self._leaving:
            raise RefusedError("its job is about to end: it does not come back")
        if record.switch is not None and record.switch.asked:
            _refuse_while_switching(record)
        why = "reinstated"
        given_up = switch_given_up(record, f"{why} by {command.command_id}")
        given_up += [
            CommandResult(owed, Outcome.FAILED, f"not stopped: {why} by {command.command_id}")
            for owed in record.owed
        ]
        after = moved(
            record,
            _S.IN_SERVICE,
            self._registry.clock(),
            why,
            drain=None,
            owed=(),
            cause=command.command_id,
        )
        entries = [self._registry.result_entry(result) for result in given_up]
        result = await self._decide(command, instance, after, Outcome.DONE, *entries)
        for ended in given_up:
            self._registry.say(self._with_status(ended, command))
        return result

    async def _drain(self, command: Command, instance: Instance, action: Drain) -> CommandResult:
        record = instance.record
        drainable = (_S.WARMING, _S.IN_SERVICE, _S.WITHDRAWN, _S.DRAINING)
        if record.state not in drainable or record.terminating:
            raise RefusedError(f"cannot drain an instance that is {_standing_of(record)}")
        _refuse_while_switching(record)
        if action.lease <= 0:
            raise RefusedError("a drain needs a lease longer than 0 s")
        if self._leaving and record.state is _S.DRAINING:
            # It drains already, by terms that its job leaves it, and without a lease.
            after = replace(record, owed=(*record.owed, command.command_id))
            return await self._decide(command, instance, after, Outcome.ACCEPTED)
        after = moved(
            record,
            _S.DRAINING,
            self._registry.clock(),
            "draining",
            drain=action,
            lease=action.lease,
            owed=(*record.owed, command.command_id),
            cause=command.command_id,
        )
        return await self._decide(command, instance, after, Outcome.ACCEPTED)

    async def _terminate(
        self, command: Command, instance: Instance, action: Terminate
    ) -> CommandResult:
        record, now = instance.record, self._registry.clock()
        if record.ended:
            return await self._decide(command, instance, record, Outcome.DONE)
        given_up = switch_given_up(record, "terminated")
        after = moved(
            record,
            _S.DRAINING,
            now,
            "terminating",
            terminating=True,
            terminate_at=record.terminate_at if record.terminating else now,
            grace=action.grace,
            owed=(*record.owed, command.command_id),
            cause=command.command_id,
        )
        entries = [self._registry.result_entry(result) for result in given_up]
        result = await self._decide(command, instance, after, Outcome.ACCEPTED, *entries)
        for ended in given_up:
            self._registry.say(self._with_status(ended, command))
        return result

    async def _switch(
        self, command: Command, instance: Instance, action: SwitchRole
    ) -> CommandResult:
        record, now = instance.record, self._registry.clock()
        facts = record.facts.role_switch
        if facts is None:
            raise RefusedError(
                f"template {record.launch.template!r} has no roleSwitch: drain and launch instead"
            )
        if record.state not in (_S.IN_SERVICE, _S.WITHDRAWN) or record.terminating:
            raise RefusedError(f"cannot switch the role of one that is {_standing_of(record)}")
        if record.switch is None and stays_out(record):
            # It would be in service afterwards, whatever came of it.
            raise RefusedError(f"it is kept out ({record.withdraw_reason}): reinstate it first")
        _refuse_while_switching(record)
        if action.role not in (Role.PREFILL, Role.DECODE):
            raise RefusedError(f"no engine switches to {action.role}")
        if record.launch.rank_count > 1:
            raise RefusedError("an instance of several ranks cannot switch its role")
        if wrong := self._launcher.complaint(replace(record.member, role=action.role)):
            raise RefusedError(wrong)
        if action.role is record.launch.role:
            return await self._decide(command, instance, record, Outcome.DONE)
        after = moved(
            record,
            _S.WITHDRAWN,
            now,
            f"out of service to switch from {record.launch.role} to {action.role}",
            withdraw_reason=WithdrawReason.MAINTENANCE,
            switch=Switch(action.role, command.command_id, now + facts.give_up_after),
            cause=command.command_id,
        )
        return await self._decide(command, instance, after, Outcome.ACCEPTED)

    async def _decide(
        self, command: Command, instance: Instance, after: Record, outcome: Outcome, *more: Entry
    ) -> CommandResult:
        """Write the change and its answer as one line: after a crash both stand, or neither."""
        result = CommandResult(command.command_id, outcome, after.message)
        await self._registry.decide(instance, after, self._entry(command, result), *more)
        return result

    # ---- small things ----

    @property
    def _leaving(self) -> bool:
        return self._post is not None and self._post.leaving

    def _keep(self, command: Command) -> float:
        left = max(0.0, command.expires_at - self._registry.clock())
        return self._wall() + left + KEEP_ANSWERS

    def _entry(self, command: Command, result: CommandResult) -> Entry:
        return result_entry(result, self._keep(command))

    def _with_status(self, result: CommandResult, command: Command) -> CommandResult:
        instance = self._registry.instances.get(command.instance_id)
        if instance is None:
            return result
        return replace(result, status=instance.status(self._registry.clock()))


def _refuse_while_switching(record: Record) -> None:
    if record.switch is not None:
        raise RefusedError(f"it is switching to {record.switch.role}; terminate it, or wait")


def _standing_of(record: Record) -> str:
    if record.terminating:
        return f"{record.state} and was sent TERM"
    return record.state.value
