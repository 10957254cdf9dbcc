"""Carries out a launch: check it, draw its ports, journal the intent, start it, journal the outcome.

A crash between intent and outcome leaves a record without a pid; `adoption` looks for the tag then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from heteroscale.words import InstanceState, Outcome
from heteroscale_agent.allowlist import (
    RefusedError,
    Standing,
    check_launch,
    endpoint,
    facts_of,
    order,
)
from heteroscale_agent.config import AgentSpec, Template
from heteroscale_agent.gatekeeper import Gatekeeper
from heteroscale_agent.hands.gates.port import Member
from heteroscale_agent.hands.port import Hands
from heteroscale_agent.hands.portpool import NoPortsError, draw
from heteroscale_agent.hands.process import Ident, Order, Processes, SpawnError
from heteroscale_agent.instances import Instance, Record, dump_record, moved
from heteroscale_agent.job.claim import Post
from heteroscale_agent.journal import JournalError
from heteroscale_agent.ledger import Entry, Intent, instance_entry, intent_entry, result_entry
from heteroscale_agent.model import Command, CommandResult, Gpu, Launch
from heteroscale_agent.registry import Registry

_log = structlog.get_logger(__name__)
_S = InstanceState


class Launcher:
    """Starts engines. ``gpus`` tells what GPUs there are; none: none are watched."""

    def __init__(
        self,
        spec: AgentSpec,
        registry: Registry,
        gatekeeper: Gatekeeper,
        hands: Hands,
        *,
        gpus: Callable[[], Sequence[Gpu]],
        rng: random.Random,
        post: Post | None = None,
    ) -> None:
        self._spec = spec
        self._registry = registry
        self._gatekeeper = gatekeeper
        self._hands = hands
        self._gpus = gpus
        self._rng = rng
        self._post = post

    async def launch(self, command: Command, launch: Launch, keep: float) -> CommandResult:
        """Start one rank and return the answer, which is kept until ``keep`` (wall clock).

        Raises:
            RefusedError: the configuration or what stands on the host does not allow it.
            JournalError: the intent could not be written; nothing was started.

        """
        try:
            record, ready = self._plan(command, launch)
        except RefusedError as error:
            if self._post is not None and command.instance_id not in self._registry.instances:
                self._post.refused = str(error)
            raise
        instance = Instance(record)
        # Counted before anything is awaited: another launch sees these GPUs and ports as taken.
        self._registry.instances[record.instance_id] = instance
        async with instance.lock:
            try:
                await self._registry.append([_intent(command, keep), _record_entry(record)])
            except JournalError:
                del self._registry.instances[record.instance_id]
                raise
            return await self._spawn(command, instance, ready, keep)

    async def _spawn(
        self, command: Command, instance: Instance, ready: Order, keep: float
    ) -> CommandResult:
        record = instance.record
        process, why = await asyncio.to_thread(_start, self._hands.processes, ready)
        if process is None:
            result = CommandResult(command.command_id, Outcome.FAILED, why)
            after = moved(record, _S.FAILED, self._registry.clock(), why, cause=command.command_id)
        else:
            said = f"started as pid {process.pid}"
            result = CommandResult(command.command_id, Outcome.DONE, said)
            after = replace(record, pid=process.pid, start_ticks=process.start_ticks, message=said)
        await self._registry.observe(instance, after, result_entry(result, keep))
        return result

    def complaint(self, member: Member, *, asks: bool = True) -> str:
        """Return why the gate of ``member`` cannot serve it, or nothing."""
        kind = self._gatekeeper.kind(member.gate.kind)
        if kind is None:
            return f"no gate of kind {member.gate.kind[:80]!r}"
        return kind.complaint(member) if asks else ""

    def _plan(self, command: Command, launch: Launch) -> tuple[Record, Order]:
        """Return the record and the order of a launch, or refuse; nothing is changed yet."""
        known = self._registry.instances.get(command.instance_id)
        if known is not None:
            raise RefusedError(
                f"{command.instance_id} exists already, at generation {known.record.generation} "
                f"({known.record.state})"
            )
        if self._post is not None:
            launch = self._post.ordered(self._spec, command, launch, self._gpus())
        template = check_launch(self._spec, command, launch, self._standing())
        record = self._record(command, launch, template)
        if wrong := self.complaint(record.member, asks=launch.rank == 0):
            raise RefusedError(wrong)
        gpus = self._gpus_by_index()
        ready = order(template, record, self._spec.advertise_host, gpus)
        return record, ready if self._post is None else self._post.shielded(launch, ready)

    def _record(self, command: Command, launch: Launch, template: Template) -> Record:
        now = self._registry.clock()
        taken, last = set[int](), set[int]()
        for other in self._registry.instances.values():
            over = other.record.ended and self._gatekeeper.finished(other, now)
            (last if over else taken).update(other.record.ports)
        try:
            ports = draw(self._spec.ports, template.ports, taken, rng=self._rng, last=last)
        except NoPortsError as error:
            raise RefusedError(str(error)) from error
        at = endpoint(self._spec.advertise_host, ports[0]) if launch.rank == 0 else ""
        return Record(
            instance_id=command.instance_id,
            launch=launch,
            state=_S.LAUNCHING,
            since_at=now,
            launched_at=now,
            facts=facts_of(template, launch),
            ports=ports,
            endpoint=at,
            boot_id=self._hands.boot_id,
            cause=command.command_id,
            message="starting",
        )

    def _standing(self) -> Standing:
        owners: dict[int, str] = {}
        somewhere = ""
        for record in (i.record for i in self._registry.instances.values() if not i.record.ended):
            stray = record.state is _S.UNKNOWN
            owner = f"{record.instance_id}: {record.message}" if stray else record.instance_id
            owners.update(dict.fromkeys(record.launch.gpu_indices, owner))
            unknown = record.gpus_unknown and bool(self._gpus())
            if (stray and not record.launch.gpu_indices) or unknown:
                somewhere = owner
        return Standing(self._gpus_by_index(), owners, somewhere)

    def _gpus_by_index(self) -> dict[int, Gpu]:
        return {gpu.index: gpu for gpu in self._gpus()}


def _start(processes: Processes, ready: Order) -> tuple[Ident | None, str]:
    """Return the engine's process, or None and why there is none."""
    try:
        return processes.spawn(ready), ""
    except SpawnError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - whatever it was, the GPU is free or it is not
        # A fault of ours, before or after the start: its tag tells. Without a process its GPUs are
        # free; where even the search fails nobody knows, and the instance keeps them.
        _log.exception("launch.fault", instance=ready.instance_id)
        return processes.find(ready.instance_id), f"agent fault: {error!r}; nothing was started"


def _intent(command: Command, keep: float) -> Entry:
    return intent_entry(Intent(command.command_id, command.instance_id, "launch", keep))


def _record_entry(record: Record) -> Entry:
    return instance_entry(record.instance_id, dump_record(record))
