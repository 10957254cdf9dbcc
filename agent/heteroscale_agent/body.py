"""The agent's body: owns the instances of this host, and lives by a short tick.

    command ─▶ executor ─▶ journal ─▶ hands          (at most once)
    tick ────▶ life (process, lease, drain)  gatekeeper (routers)  probe (readiness)
                 └──────────▶ registry: journal ─▶ record ─▶ outbox

The concerns of one instance run side by side and none waits for another instance's: a router that
hangs delays no lease, and a probe that hangs no KILL.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from heteroscale.words import InstanceState
from heteroscale_agent.adoption import add_static, adopt
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.discovery import Finder, Witness
from heteroscale_agent.discovery.witness import Engine, engine_facts
from heteroscale_agent.executor import Executor
from heteroscale_agent.gatekeeper import Gatekeeper
from heteroscale_agent.hands.port import Hands
from heteroscale_agent.instances import Instance
from heteroscale_agent.job import Duty, Post
from heteroscale_agent.journal import Journal
from heteroscale_agent.launcher import Launcher
from heteroscale_agent.leases import renewable
from heteroscale_agent.ledger import (
    acknowledged_entry,
    epoch_entry,
    forgotten_entry,
    pruned_entry,
)
from heteroscale_agent.life import Life, is_ours
from heteroscale_agent.model import Command, CommandResult, InstanceStatus
from heteroscale_agent.ports import Clock, Eyes, GpuHolder, Outbox, ScrapeTarget
from heteroscale_agent.registry import Registry
from heteroscale_agent.switching import Switcher

_log = structlog.get_logger(__name__)

TICK = 0.25
"""Seconds between looks at each instance."""
SWEEP = 1.0
"""Seconds between looks for what may be forgotten."""
RETAIN_ENDED = 3600.0
"""Seconds an ended instance is still told of in hellos."""
RETAIN_ENDED_COUNT = 64


class AgentBody:
    """`heteroscale_agent.ports.Body` on a real host (or on twins of its hands).

    Raises:
        JournalError: the state directory cannot be used, or another agent uses it.

    """

    def __init__(
        self,
        spec: AgentSpec,
        eyes: Eyes,
        outbox: Outbox,
        hands: Hands,
        *,
        clock: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
        journal: Journal | None = None,
        rng: random.Random | None = None,
        agent_id: str = "",
        post: Post | None = None,
    ) -> None:
        self._spec = spec
        self._eyes = eyes
        self._hands = hands
        self._clock = clock
        journal = journal if journal is not None else Journal(spec.state_dir, wall=wall)
        self._registry = Registry(journal, clock, outbox)
        self._gatekeeper = Gatekeeper(self._registry, hands.gates, spec.reconcile_interval)
        self._life = Life(self._registry, self._gatekeeper, hands.processes, eyes)
        launcher = Launcher(
            spec,
            self._registry,
            self._gatekeeper,
            hands,
            gpus=lambda: eyes.inventory().gpus,
            rng=rng if rng is not None else random.Random(),  # noqa: S311 - draws ports
            post=post,
        )
        self.duty = Duty(self._registry, self._gatekeeper, post) if post is not None else None
        """What it does besides, within a scheduler's job."""
        self._switcher = Switcher(self._registry, self._life, hands.roles)
        self._witness = Witness(spec, self._registry, eyes, hands.boot_id)
        self._finder = Finder(
            spec, self._witness, eyes, agent_id=agent_id, boot_id=hands.boot_id, clock=clock
        )
        self._executor = Executor(self._registry, launcher, wall, post)
        self._acks: list[str] = []
        self._sweep_due_at = clock()
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._targets: tuple[ScrapeTarget, ...] = ()
        self._holders: tuple[GpuHolder, ...] | None = None
        self._started = False

    # ---- life of the body ----

    async def start(self) -> None:
        """Adopt what runs; to be awaited before the first hello."""
        if self._started:
            return
        self._started = True
        await adopt(self._registry, self._life, self._hands)
        add_static(self._registry, self._spec)
        await self._witness.forget({source.kind for source in self._finder.sources})
        self._finder.start()
        self._registry.speaking = True
        self._retarget()

    async def run(self) -> None:
        """Live until cancelled. Engines run on afterwards."""
        await self.start()
        try:
            while True:
                self._begin()
                await asyncio.sleep(TICK)
        finally:
            await self.close()

    async def tick(self) -> None:
        """Do one tick and wait for all that it began."""
        await asyncio.gather(*self._begin())

    async def close(self) -> None:
        """Stop looking, finish commands in hand, close the journal; engines are not touched."""
        await self._finder.close()
        await self._executor.settle()
        busy = list(self._busy.values())
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        self._note_acks()
        await self._gatekeeper.close()
        await self._hands.probe.close()
        self._hands.processes.release()
        self._registry.close()

    # ---- what the link asks ----

    @property
    def highest_epoch(self) -> int:
        """The highest epoch ever heard; kept on disk."""
        return self._registry.epoch

    def hear_epoch(self, epoch: int) -> bool:
        """Take note of a coordinator's epoch; False when it is lower than one heard before."""
        if epoch < self.highest_epoch:
            return False
        # Written with the next tick: a disk that hangs must not stop everything else.
        self._registry.heard = epoch
        return True

    async def execute(self, command: Command) -> CommandResult:
        """Carry out ``command`` at most once; see `Executor.execute`."""
        result = await self._executor.execute(command)
        self._retarget()
        return result

    def renew(self, instance_ids: Iterable[str], expires_at: float) -> None:
        """Extend leases to ``expires_at``; holds, and what stays out, are not moved by it."""
        for instance_id in instance_ids:
            instance = self._registry.instances.get(instance_id)
            if instance is None or not renewable(instance.record):
                continue
            if instance.lease_until_at is not None:
                instance.lease_until_at = max(instance.lease_until_at, expires_at)

    def statuses(self) -> list[InstanceStatus]:
        """Return every instance of this host, ended ones for an hour."""
        now = self._clock()
        return [instance.status(now) for instance in self._registry.instances.values()]

    def unacknowledged(self) -> list[CommandResult]:
        """Return answers not acknowledged yet, oldest first; ACCEPTED and DONE are two."""
        acked = Counter(self._acks)
        waiting: list[CommandResult] = []
        for result in self._registry.journal.pending():
            if acked[result.command_id]:
                acked[result.command_id] -= 1
            else:
                waiting.append(result)
        return waiting

    def acknowledge(self, command_ids: Iterable[str]) -> None:
        """Take one answer of each id off the list; written with the next tick."""
        self._acks.extend(command_ids)

    # ---- the tick ----

    def _begin(self) -> list[asyncio.Task[None]]:
        now = self._clock()
        begun = []
        if self._acks or self._registry.behind or now >= self._sweep_due_at:
            begun.append(self._task("", "journal", self._housekeep))
        if self._finder.due(now):
            begun.append(self._task("", "discovery", self._discover))
        for instance in list(self._registry.instances.values()):
            name = instance.instance_id
            if is_ours(instance.record):
                begun.append(self._task(name, "life", partial(self._step, instance)))
            if self._gatekeeper.due(instance, now):
                begun.append(self._task(name, "gate", partial(self._gatekeeper.check, instance)))
            if self._switcher.due(instance, now):
                begun.append(self._task(name, "role", partial(self._switcher.check, instance)))
            if self._probe_due(instance, now):
                begun.append(self._task(name, "probe", partial(self._probe, instance)))
        return [task for task in begun if task is not None]

    def _task(
        self, instance_id: str, concern: str, work: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None] | None:
        """Begin ``work`` unless the last of its kind still runs."""
        key = (instance_id, concern)
        if key in self._busy:
            return None

        async def carry() -> None:
            await work()

        task = asyncio.create_task(carry(), name=f"{concern} {instance_id}")
        self._busy[key] = task
        task.add_done_callback(lambda done: self._done(key, done))
        return task

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._busy.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # One instance's trouble is its own: the others live on, and this one is tried again.
            _log.error("body.tick_failed", instance=key[0], concern=key[1], exc_info=error)

    async def _step(self, instance: Instance) -> None:
        await self._life.step(instance)
        self._retarget()

    async def _discover(self) -> None:
        await self._finder.step()
        self._retarget()

    def _probe_due(self, instance: Instance, now: float) -> bool:
        record = instance.record
        return (
            record.state is InstanceState.LAUNCHING
            and is_ours(record)
            and record.launch.rank == 0
            and instance.ready_at is None
            and now >= instance.probe_due_at
        )

    async def _probe(self, instance: Instance) -> None:
        facts = instance.record.facts
        instance.probe_due_at = self._clock() + facts.readiness_period
        url = instance.record.endpoint + facts.readiness_path
        if await self._hands.probe.ready(url, facts.readiness_timeout):
            instance.ready_at = self._clock()

    async def _housekeep(self) -> None:
        acks, self._acks = self._acks, []
        if acks:
            await self._registry.note([acknowledged_entry(acks)])
        if self._registry.heard > self._registry.journal.epoch:
            await self._registry.note([epoch_entry(self._registry.heard)])
        await self._registry.flush()
        now = self._clock()
        self._sweep_due_at = now + SWEEP
        ended = [i for i in self._registry.instances.values() if i.record.ended]
        ended.sort(key=lambda instance: instance.record.since_at)
        surplus = len(ended) - RETAIN_ENDED_COUNT
        for place, instance in enumerate(ended):
            old = now - instance.record.since_at > RETAIN_ENDED or place < surplus
            if old and self._gatekeeper.finished(instance, now):
                del self._registry.instances[instance.instance_id]
                await self._registry.note([forgotten_entry(instance.instance_id)])
        await self._prune_logs()

    async def _prune_logs(self) -> None:
        """Remove log files of forgotten instances; those still told of keep theirs."""
        logs = self._registry.journal.logs()
        told = sum(instance.record.ended for instance in self._registry.instances.values())
        surplus = logs[: max(0, len(logs) + told - self._spec.keep_logs)]
        if surplus:
            await asyncio.to_thread(self._hands.processes.drop_logs, surplus)
            await self._registry.note([pruned_entry(surplus)])

    def _note_acks(self) -> None:
        if self._registry.heard > self._registry.journal.epoch:
            self._registry.journal.note([epoch_entry(self._registry.heard)])
        if self._acks:
            self._registry.journal.note([acknowledged_entry(self._acks)])
            self._acks = []

    def _retarget(self) -> None:
        """Tell the eyes which engines to scrape and who holds which GPU, when that has changed."""
        targets = tuple(
            ScrapeTarget(
                instance.instance_id,
                instance.record.endpoint + instance.record.facts.metrics_path,
                instance.record.facts.engine,
                instance.record.facts.model_name,
                instance.record.launch.template,
            )
            for instance in self._registry.instances.values()
            if _scraped(instance)
        )
        targets += tuple(map(_measured, self._finder.measured))
        if targets != self._targets:
            self._targets = targets
            self._eyes.set_targets(targets)
        holders = tuple(
            GpuHolder(
                instance.instance_id,
                instance.record.launch.gpu_indices,
                instance.record.pid or instance.record.watched_pid or None,
            )
            for instance in self._registry.instances.values()
            if not instance.record.ended
        )
        holders += tuple(
            GpuHolder(one.instance_id, one.gpus or (), one.seen.pid or None)
            for one in self._finder.measured
        )
        if holders != self._holders:
            self._holders = holders
            self._eyes.set_holders(holders)


def _measured(one: Engine) -> ScrapeTarget:
    """Return what is scraped of an engine of which an adapter tells."""
    facts = engine_facts(one.seen)
    url = f"http://{one.seen.host}:{one.seen.port}{facts.metrics_path}"
    return ScrapeTarget(one.instance_id, url, facts.engine, facts.model_name, "")


def _scraped(instance: Instance) -> bool:
    record = instance.record
    # Before it is ready there is nothing to read, and a refused connection is no news.
    ready = bool(record.origin) or record.was_ready
    return ready and bool(record.endpoint) and not record.ended
