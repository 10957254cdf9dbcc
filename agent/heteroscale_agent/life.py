"""One step in the life of an instance: look at its process, its gate and its scrapes, and move it.

Called every tick for each instance. What the world did (a process ended, a probe answered) is noted
whether or not the disk takes it; what cannot be undone (TERM) waits until it is journaled. Leases
are looked at before TERM, so a lease that ran out while the agent was stopped wins over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from heteroscale.words import InstanceState, Outcome, WithdrawReason
from heteroscale_agent.gatekeeper import Gatekeeper
from heteroscale_agent.hands.gates.port import View
from heteroscale_agent.hands.process import Exit, Ident, Processes
from heteroscale_agent.instances import Instance, Record, Switch, moved
from heteroscale_agent.leases import why_back
from heteroscale_agent.model import CommandResult, Drain
from heteroscale_agent.ports import Eyes
from heteroscale_agent.quiescence import Terms, advance
from heteroscale_agent.registry import Registry

GATE_PATIENCE = 5.0
"""Seconds that a terminate, which waits for no request, waits for routers to confirm."""

_S = InstanceState


class Life:
    """Moves instances along; holds an instance's lock while it does."""

    def __init__(
        self, registry: Registry, gatekeeper: Gatekeeper, processes: Processes, eyes: Eyes
    ) -> None:
        self._registry = registry
        self._gatekeeper = gatekeeper
        self._processes = processes
        self._eyes = eyes
        self._steps: dict[InstanceState, Callable[[Instance, float], Awaitable[None]]] = {
            _S.LAUNCHING: self._launching,
            _S.WARMING: self._warming,
            _S.WITHDRAWN: self._withdrawn,
            _S.DRAINING: self._draining,
        }

    async def step(self, instance: Instance) -> None:
        """Take one step; does nothing while a command holds the instance."""
        if instance.lock.locked() or not is_ours(instance.record):
            return
        async with instance.lock:
            now = self._registry.clock()
            end = self._processes.poll(ident(instance.record))
            if end is not None:
                # What a dead leader left behind would go on holding its GPUs.
                await asyncio.to_thread(self._processes.kill, ident(instance.record))
                await self.ended(instance, end)
            elif instance.record.terminating:
                await self._stop(instance, now)
            elif instance.record.state in self._steps:
                await self._steps[instance.record.state](instance, now)

    async def ended(self, instance: Instance, end: Exit) -> None:
        """Record that the process is gone, and answer the commands that waited for it."""
        record = instance.record
        state = _S.TERMINATED if _ended_well(record, end) else _S.FAILED
        why = "; ".join(part for part in (record.doomed or self._said(record), str(end)) if part)
        if state is _S.FAILED:
            tail = await asyncio.to_thread(self._processes.log_tail, record.instance_id)
            why = f"{why}; log: {tail}" if tail else why
        results = [_final(command_id, state, str(end)) for command_id in record.owed]
        results += switch_given_up(record, str(end))
        after = moved(
            record,
            state,
            self._registry.clock(),
            why,
            exit_code=end.code,
            owed=(),
            terminating=False,
            cause=record.owed[-1] if record.owed else "",
        )
        await self._registry.observe(instance, after, *map(self._registry.result_entry, results))
        for result in results:
            self._say(result, instance)

    async def back(self, instance: Instance, why: str) -> None:
        """Put a withdrawn or draining instance back into service by itself."""
        results = [_given_up(command_id, why) for command_id in instance.record.owed]
        results += switch_given_up(instance.record, why)
        now = self._registry.clock()
        after = moved(instance.record, _S.IN_SERVICE, now, why, drain=None, owed=())
        await self._registry.observe(instance, after, *map(self._registry.result_entry, results))
        for result in results:
            self._say(result, instance)

    async def _launching(self, instance: Instance, now: float) -> None:
        record = instance.record
        ready_at = now if record.launch.rank > 0 else instance.ready_at
        if record.recovered and record.facts.role_switch is not None and not instance.role_known:
            return  # it may have switched its role since: it is asked before any router hears of it
        if ready_at is not None:
            took = max(0.0, ready_at - record.launched_at)
            why = "it answers" if record.recovered else f"ready after {took:.1f} s"
            known = None if record.recovered else took
            after = moved(record, _S.WARMING, now, why, startup_time=known)
            await self._registry.observe(instance, after)
        elif now - record.launched_at > record.launch.startup_timeout:
            await self._doom(instance, now, f"not ready after {record.launch.startup_timeout:g} s")

    async def doom(self, instance: Instance, why: str) -> None:
        """Stop what a switch of its role broke; it counts as failed."""
        results = switch_given_up(instance.record, why)
        now, record = self._registry.clock(), instance.record
        doomed = {"terminating": True, "terminate_at": now, "doomed": why}
        after = moved(record, _S.DRAINING, now, why, **doomed)
        await self._registry.observe(instance, after, *map(self._registry.result_entry, results))
        for result in results:
            self._say(result, instance)

    async def _doom(self, instance: Instance, now: float, why: str) -> None:
        """Stop what never came into service; it counts as failed."""
        after = replace(
            instance.record, terminating=True, terminate_at=now, doomed=why, message=why
        )
        if await self._registry.try_decide(instance, after):
            await self._stop(instance, now)

    async def _warming(self, instance: Instance, now: float) -> None:
        record = instance.record
        hold = record.launch.ratio_hold
        if hold is not None:
            after = moved(
                record,
                _S.WITHDRAWN,
                now,
                f"ready; held back for the ratio, at most {hold:g} s",
                withdraw_reason=WithdrawReason.RATIO_HOLD,
                hold_until_at=now + hold,
            )
            await self._registry.observe(instance, after)
        elif not record.has_gate or (
            instance.view is not None and instance.view_wanted and instance.view.some_in
        ):
            await self._registry.observe(
                instance, moved(record, _S.IN_SERVICE, now, "traffic reaches it")
            )
        elif instance.kept_out > record.launch.startup_timeout and instance.view is not None:
            await self._doom(instance, now, _kept_out(record, instance.view))

    async def _withdrawn(self, instance: Instance, now: float) -> None:
        switch = instance.record.switch
        if switch is not None and not switch.asked:
            await self._emptying(instance, switch, now)
        elif why := why_back(instance.record, instance.lease_until_at, now):
            await self.back(instance, why)

    async def _emptying(self, instance: Instance, switch: Switch, now: float) -> None:
        """Wait until it is quiet; then its engine may be asked for the other role."""
        record, facts = instance.record, instance.record.facts.role_switch
        if facts is None:
            await self.back(instance, f"it cannot become {switch.role} any more")
            return
        instance.progress = advance(
            instance.progress,
            Terms(facts.settle, facts.quiet_scrapes, record.launch.role, record.facts.kv_lease),
            now,
            gate_closed=self._gatekeeper.closed(instance, now),
            engine=self._eyes.engine(record.instance_id),
        )
        self._tell_progress(instance)
        if instance.progress.done:
            asked = replace(switch, asked=True)
            why = f"quiet; its engine is asked to become {switch.role}"
            if await self._registry.try_decide(
                instance, replace(record, switch=asked, message=why)
            ):
                instance.switch_due_at = now
        elif now >= switch.until_at:
            left = instance.progress.message or "nobody could tell whether it was quiet"
            await self.back(instance, f"still {record.launch.role}, and back in service: {left}")

    async def _draining(self, instance: Instance, now: float) -> None:
        record, drain = instance.record, instance.record.drain
        if why := why_back(record, instance.lease_until_at, now):
            await self.back(instance, why)
        elif drain is not None:
            if record.launch.rank == 0:
                instance.progress = advance(
                    instance.progress,
                    Terms.of(drain, record.launch.role, record.facts.kv_lease),
                    now,
                    gate_closed=self._gatekeeper.closed(instance, now),
                    engine=self._eyes.engine(record.instance_id),
                )
                self._tell_progress(instance)
            if why := _may_stop(instance, drain, now):
                after = replace(
                    record,
                    terminating=True,
                    terminate_at=now,
                    grace=drain.grace,
                    lease=None,
                    message=why,
                )
                if await self._registry.try_decide(instance, after):
                    self._send_term(instance, now)

    async def _stop(self, instance: Instance, now: float) -> None:
        record = instance.record
        if instance.term_sent_at is None:
            waited = now - record.terminate_at if record.terminate_at is not None else 0.0
            if self._gatekeeper.closed(instance, now) or waited >= GATE_PATIENCE:
                self._send_term(instance, now)
        elif now - instance.term_sent_at >= record.grace:
            await asyncio.to_thread(self._processes.kill, ident(record))
            if not instance.killed and record.grace > 0:
                instance.killed = True
                why = f"{record.message}; still there {record.grace:g} s after TERM, so KILL"
                await self._registry.observe(instance, replace(record, message=why))

    def _tell_progress(self, instance: Instance) -> None:
        """Say aloud what a drain waits for, when it is something else now, not another number."""
        if instance.message_without_numbers != instance.shown_message:
            self._registry.publish(instance)

    def _send_term(self, instance: Instance, now: float) -> None:
        self._processes.terminate(ident(instance.record))
        instance.term_sent_at = now

    def _say(self, result: CommandResult, instance: Instance) -> None:
        status = instance.status(self._registry.clock())
        self._registry.say(replace(result, status=status))

    @staticmethod
    def _said(record: Record) -> str:
        return record.message if record.terminating else ""


def _ended_well(record: Record, end: Exit) -> bool:
    """Return whether an end was wanted.

    Ranks above 0 end with their leader: nobody drains them one by one, and the leader's end may be
    felt here before the coordinator's word of it comes.
    """
    if record.launch.rank == 0 or record.doomed or record.state is _S.LAUNCHING:
        return record.terminating and not record.doomed
    return record.terminating or record.state is _S.DRAINING or end.code == 0


def is_ours(record: Record) -> bool:
    """Return whether there is a process of ours to look after."""
    return not record.ended and record.pid != 0


def ident(record: Record) -> Ident:
    """Return which process it is."""
    return Ident(record.pid, record.start_ticks)


def _may_stop(instance: Instance, drain: Drain, now: float) -> str:
    """Return why TERM may be sent now, in words, or nothing."""
    if instance.progress.done:
        return f"quiet in {drain.quiet_scrapes} scrapes; TERM sent"
    waited = now - instance.record.since_at
    if drain.force_after is None or waited < drain.force_after:
        return ""
    left = instance.progress.message or "nobody could tell whether it was quiet"
    more = ""
    if instance.record.facts.waits_for_requests:
        more = " (it finishes what is in flight by itself)"
    return f"FORCED: TERM sent after {drain.force_after:g} s though {left}{more}"


def _kept_out(record: Record, view: View) -> str:
    """Return why it is given up, with what a person must look at."""
    routers = ", ".join(view.kept_out_by) or "the routers"
    said = f" ({view.message})" if view.message else ""
    return (
        f"ready, but {routers} did not take {record.endpoint} in for "
        f"{record.launch.startup_timeout:g} s{said}: can they reach this advertiseHost?"
    )


def _final(command_id: str, state: InstanceState, end: str) -> CommandResult:
    if state is _S.TERMINATED:
        return CommandResult(command_id, Outcome.DONE, end)
    lost = f"{end} before TERM was sent; what was in flight may be lost"
    return CommandResult(command_id, Outcome.FAILED, lost)


def switch_given_up(record: Record, why: str) -> list[CommandResult]:
    """Return the answer to a switch that comes to nothing, where one is under way."""
    if record.switch is None:
        return []
    said = f"not switched to {record.switch.role}: {why}"
    return [CommandResult(record.switch.command_id, Outcome.FAILED, said)]


def _given_up(command_id: str, why: str) -> CommandResult:
    return CommandResult(command_id, Outcome.FAILED, f"not stopped: {why}")
