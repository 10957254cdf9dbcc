"""The adapter: one Slurm cluster behind the port."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Capabilities,
    Change,
    GateWish,
    RefusedError,
    SettingsError,
    Step,
    UnavailableError,
    World,
)
from heteroscale_scheduler_adapters.slurm import phases, tag
from heteroscale_scheduler_adapters.slurm.command import CommandWay
from heteroscale_scheduler_adapters.slurm.records import JobRecord
from heteroscale_scheduler_adapters.slurm.rest import RestWay
from heteroscale_scheduler_adapters.slurm.settings import SlurmOptions, options_of
from heteroscale_scheduler_adapters.slurm.steps import Steps
from heteroscale_scheduler_adapters.slurm.tag import Tag
from heteroscale_scheduler_adapters.slurm.topology import Place, places
from heteroscale_scheduler_adapters.slurm.way import Way, gone
from heteroscale_scheduler_adapters.slurm.world import (
    CLOSED,
    MARK,
    Look,
    adopted_id,
    holder,
    marked,
    surplus,
    world,
)

_TOPOLOGY_EVERY = 300.0
"""Seconds; a new node brings it anew at once."""


class SlurmAdapter:
    """One cluster, asked through the first way in that answers."""

    def __init__(
        self,
        name: str,
        options: SlurmOptions,
        ways: tuple[Way, ...],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._options = options
        self._ways = ways
        self._way: Way | None = None
        self._steps: Steps | None = None
        self._now = now
        self._monotonic = monotonic
        self._hidden: Mapping[str, int] = {}
        self._signalled: set[int] = set()
        """Jobs that were sent TERM: to an agent that drains a second one says to wait for nobody."""
        self._places: tuple[float, set[str], Mapping[str, Place]] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Jobs bring their agents; Slurm tells no changes, and gates nothing."""
        return Capabilities(
            gates=False,
            watches=False,
            own_agents=any(not template.script for template in self._options.templates),
            several_ranks=True,
            marks=self._options.node_health,
        )

    async def open(self) -> None:
        """Find a way in that answers. Raises SettingsError, UnavailableError."""
        said: list[AdapterError] = []
        for way in self._ways:
            try:
                await way.open()
            except AdapterError as error:
                said.append(error)
            else:
                self._way = way
                self._steps = Steps(self._name, way, self._options, self._monotonic)
                return
        words = "; ".join(str(error) for error in said)
        if all(isinstance(error, SettingsError) for error in said):
            raise SettingsError(words)
        raise UnavailableError(words)

    async def close(self) -> None:
        """Let go of connections."""
        for way in self._ways:
            await way.close()

    async def world(self) -> World:
        """Return all that is there, after seeing to what was left undone. Raises UnavailableError."""
        way, steps = self._opened()
        look = await self._look(way)
        hidden = surplus(look)
        if any(count > self._hidden.get(node, 0) for node, count in hidden.items()):
            # Nodes and jobs are told one after the other: only what both looks show is there.
            look = await self._look(way)
            again = surplus(look)
            hidden = {node: min(count, again.get(node, 0)) for node, count in hidden.items()}
        self._hidden = hidden
        self._signalled &= {job.job_id for job in look.jobs}
        notes = await steps.tend(look.jobs, look.now)
        where = await self._where(way, {record.name for record in look.nodes}, notes)
        return world(replace(look, places=where, hidden=hidden), self._options, notes)

    async def _look(self, way: Way) -> Look:
        try:
            async with asyncio.TaskGroup() as group:
                nodes = group.create_task(way.nodes())
                jobs = group.create_task(way.jobs())
                reservations = group.create_task(way.reservations())
        except* AdapterError as failed:
            raise _first(failed) from None
        return Look(
            nodes.result(),
            jobs.result(),
            reservations.result(),
            cluster=self._name,
            user=way.user,
            now=self._now(),
        )

    async def watch(self, revision: str) -> AsyncIterator[Change]:
        """Slurm tells no changes: never called, as ``capabilities`` say."""
        if self._ways:
            raise UnavailableError(f"Slurm tells no changes since {revision!r}")
        yield Change("")

    async def launch(self, step: Step) -> None:
        """Start all of a step, or nothing. Raises RefusedError, UnavailableError."""
        await self._opened()[1].launch(step)

    async def gate(self, instance_id: str, wish: GateWish) -> None:
        """Slurm gates no traffic; the agent in the job does. Raises RefusedError."""
        raise RefusedError(f"{instance_id}: Slurm gates no traffic ({wish})")

    async def stop(self, instance_id: str, grace: float) -> None:
        """TERM now; cancelled after ``grace`` by whoever looks next. Raises RefusedError …."""
        way, _ = self._opened()
        for job in await way.jobs():
            one = tag.ours(job, way.user, self._name)
            if one is None or one.instance != instance_id:
                if instance_id == adopted_id(self._name, job) and not phases.over(job):
                    raise RefusedError(f"{holder(job)} is not ours to stop")
                continue
            if not phases.over(job):
                await self._end(way, job, one, grace)

    async def mark(self, node: str, reason: str) -> None:
        """Drain a node that nobody else has closed, or resume one that we drained. Raises …."""
        way, _ = self._opened()
        record = next((one for one in await way.nodes() if one.name == node), None)
        if record is None:
            raise RefusedError(f"Slurm has no node {node}")
        if not reason:
            if marked(record):
                await way.resume(node)
        elif not record.reason and not record.states & CLOSED:
            await way.drain(node, f"{MARK}{reason}")

    async def _end(self, way: Way, job: JobRecord, one: Tag, grace: float) -> None:
        if one.stop and ("COMPLETING" in job.states or job.job_id in self._signalled):
            return
        try:
            if not one.stop:
                # Written first: whoever looks after us knows that it was told, and until when it may.
                stopped = one.stopped(self._now() + grace)
                await way.comment(job.job_id, tag.write(stopped))
            if phases.waiting(job):
                await way.cancel([job.job_id])
            else:
                await way.signal(job.job_id, batch=one.ranks == 1)
                self._signalled.add(job.job_id)
        except RefusedError as error:
            if not gone(error):
                raise

    async def _where(self, way: Way, nodes: set[str], notes: list[str]) -> Mapping[str, Place]:
        """Return the places of all nodes, asked anew when a node is new, and from time to time."""
        if self._places is not None:
            since, asked, known = self._places
            # A node that is under no switch is asked for once, not at each look.
            if self._monotonic() - since < _TOPOLOGY_EVERY and nodes <= asked:
                return known
        topology = self._options.topology
        try:
            text = topology.file.read_text() if topology.file else await way.topology()
        except OSError as error:
            notes.append(f"topology.file: {error}")
            return self._places[2] if self._places else {}
        found = places(text, topology.switches, topology.blocks)
        if not found:
            notes.append(
                "the topology is not known: set topology.file to a copy of topology.conf"
                if not text
                else "Slurm's topology has no switches and no blocks"
            )
        self._places = (self._monotonic(), nodes, found)
        return found

    def _opened(self) -> tuple[Way, Steps]:
        if self._way is None or self._steps is None:
            raise UnavailableError("the adapter is not open")
        return self._way, self._steps


def _first(group: BaseExceptionGroup[AdapterError]) -> AdapterError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


def create(name: str, options: Mapping[str, Any]) -> SlurmAdapter:
    """Return an adapter, not yet open: what the entry point ``slurm`` names. Raises SettingsError."""
    given = options_of(options)
    ways: list[Way] = []
    commands = CommandWay(
        deadline=given.timeout,
        environ=os.environ,
        path=given.command.path,
        config=given.command.config,
    )
    if given.rest is not None and given.way != "command":
        rest = given.rest
        ways.append(
            RestWay(
                rest.url,
                deadline=given.timeout,
                user=rest.user,
                token_file=rest.token_file,
                version=rest.version,
                beside=commands if commands.there() else None,
            )
        )
    if given.way != "rest":
        ways.append(commands)
    return SlurmAdapter(name, given, tuple(ways))
