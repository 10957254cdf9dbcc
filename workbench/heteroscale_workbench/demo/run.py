"""Runs the demo: a cluster, a service, traffic that follows the story, and a recording of it all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from heteroscale.convert import from_wire, unix_seconds
from heteroscale.documents import write_document
from heteroscale.v1 import operator_pb2
from heteroscale.words import InstanceState, Role
from heteroscale_simulator.traffic.traces import read_trace
from heteroscale_workbench.cluster.local import Layout, LocalCluster, two_minipods, until
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.demo.profile import OUTPUT, PROMPT, RATIO, SERVICE, DemoProfile
from heteroscale_workbench.demo.recording import Note, Recording, Sample
from heteroscale_workbench.demo.script import PEAK, Phase, story
from heteroscale_workbench.demo.traffic import Asked, Pacer, generated, replayed
from heteroscale_workbench.load.run import LoadOptions, LoadRun, Snapshot

SAMPLE_INTERVAL = 0.5
PACE_INTERVAL = 0.05
SERVICE_READY = 60.0
LAST_ANSWERS = 60.0
TRACE_MINUTES = 15.0
FIRST = {Role.PREFILL: 1, Role.DECODE: 2}
"""What must serve before the traffic begins."""
SHOWN = ("pending", "launching", "warming", "in_service", "withdrawn", "draining", "unknown")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line may choose."""

    directory: Path
    profile: DemoProfile
    trace: Path | None = None
    load: bool = True
    seed: int = 1


class Demo:
    """One run; ``recording`` fills while it goes on."""

    def __init__(self, options: DemoOptions, on_sample: Callable[[Recording], None]) -> None:
        self.options = options
        self.recording = Recording(RATIO)
        self.url = ""
        self._on_sample = on_sample
        self._phase, self._level, self._offered = "starting", 0.0, 0.0
        self._began = asyncio.get_running_loop().time()
        self._wall_began = 0.0
        self._noted: set[str] = set()
        self._load: LoadRun | None = None

    @property
    def now(self) -> float:
        """Seconds since the traffic began."""
        return asyncio.get_running_loop().time() - self._began

    async def run(self) -> Recording:
        """Play the whole story and return what was recorded.

        Raises:
            ProcessError, RouterError, BuildError, TraceError: a part could not be started or read.

        """
        profile = self.options.profile
        arrivals = await asyncio.to_thread(self._arrivals)
        layout = Layout(
            self.options.directory,
            hosts=two_minipods(profile.agents, profile.gpus_per_agent),
            rules=profile.rules(),
            engine_startup=profile.startup,
            nics=True,
        )
        cluster = LocalCluster(layout)
        try:
            await cluster.start()
            self.url = cluster.url
            async with cluster.operator() as operator:
                await self._bring_up(cluster, operator)
                await self._play(cluster, operator, arrivals)
        finally:
            await cluster.stop()
        return self.recording

    def _arrivals(self) -> Iterator[Asked]:
        if self.options.trace is None:
            return generated(PROMPT, OUTPUT, self.options.seed)
        rows = read_trace(self.options.trace)
        first = [row for row in rows if row.at - rows[0].at <= TRACE_MINUTES * 60]
        return replayed(first, PROMPT, OUTPUT)

    async def _bring_up(self, cluster: LocalCluster, operator: Operator) -> None:
        document = self.options.profile.service([router.url for router in cluster.routers])
        await operator.apply(write_document(document))

        async def ready() -> bool:
            cluster.coordinator.require()
            counts = await counts_of(operator, SERVICE)
            return all(counts[role]["in_service"] >= least for role, least in FIRST.items())

        await until(ready, SERVICE_READY, "the first prefill and decode instances in service")

    # ---- the story -------------------------------------------------------------------------------

    async def _play(
        self, cluster: LocalCluster, operator: Operator, arrivals: Iterator[Asked]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._began, self._wall_began = loop.time(), time.time()
        run = LoadRun(cluster.url, options=LoadOptions(seen_dir=cluster.seen_dir), live=True)
        self._load = run if self.options.load else None
        sending = asyncio.create_task(run.run()) if self.options.load else None
        watching = asyncio.create_task(self._watch(operator))
        try:
            pacer = Pacer(arrivals, OUTPUT)
            for phase in story():
                await self._phase_of(phase, pacer, run)
            self._phase, self._offered = "last answers", 0.0
            run.stop()
            if sending is not None:
                async with asyncio.timeout(LAST_ANSWERS):
                    await sending
            await self._sample(operator)
        finally:
            watching.cancel()
            if sending is not None:
                sending.cancel()
            await asyncio.gather(watching, *filter(None, [sending]), return_exceptions=True)
            self._settle(run)

    async def _phase_of(self, phase: Phase, pacer: Pacer, run: LoadRun) -> None:
        self._phase = phase.name
        start, before, last = self.now, self._level, self.now
        while True:
            now = self.now
            gone = now - start
            self._level = before + (phase.level - before) * min(1.0, gone / phase.ramp)
            self._offered = self._level * PEAK if self.options.load else 0.0
            for arrival in pacer.advance(now - last, self._offered):
                run.offer(arrival.prompt, arrival.output)
            last = now
            told = bool(self.recording.samples) and phase.told(self.recording, start)
            if gone >= phase.most or (gone >= phase.least and told):
                return
            await asyncio.sleep(PACE_INTERVAL)

    def _settle(self, run: LoadRun) -> None:
        if not self.options.load:
            return
        report = run.report()
        self.recording.requests = report.requests
        self.recording.failures = [f"{f.kind.value}: {f.reason}" for f in report.failures]
        self.recording.retried = report.retried_requests or 0
        self.recording.unseen = report.unseen or 0
        unanswered = report.requests - report.passed - len(report.failures)
        self.recording.failures += ["never answered"] * unanswered

    # ---- watching --------------------------------------------------------------------------------

    async def _watch(self, operator: Operator) -> None:
        while True:
            with suppress(Error):  # the coordinator may be away for a moment
                await self._sample(operator)
            await asyncio.sleep(SAMPLE_INTERVAL)

    async def _sample(self, operator: Operator) -> None:
        counts = await counts_of(operator, SERVICE)
        await self._note(operator)
        seen = self._load.snapshot() if self._load else None
        self.recording.samples.append(self._made(seen, counts))
        if seen is not None:
            self.recording.requests = seen.sent
            self.recording.retried = seen.retried or 0
            self.recording.failures = [f"{f.kind.value}: {f.reason}" for f in seen.failures]
        self._on_sample(self.recording)

    def _made(self, seen: Snapshot | None, counts: dict[Role, Counter[str]]) -> Sample:
        return Sample(
            t=self.now,
            phase=self._phase,
            offered=self._offered,
            served=seen.tokens_per_s if seen else 0.0,
            in_flight=seen.in_flight if seen else 0,
            ttft=seen.ttft.mean if seen else None,
            tbt=seen.tbt.mean if seen else None,
            prefill={state: counts[Role.PREFILL][state] for state in SHOWN},
            decode={state: counts[Role.DECODE][state] for state in SHOWN},
            failed=seen.failed if seen else 0,
        )

    async def _note(self, operator: Operator) -> None:
        for decision in reversed(await operator.decisions(SERVICE, 30)):
            if decision.action == "hold" or decision.decision_id in self._noted:
                continue
            self._noted.add(decision.decision_id)
            self.recording.notes.append(note_of(decision, self._wall_began))
            if decision.action == "scale_in":
                self.recording.withdrawn += len(decision.instance_ids)
            elif decision.action == "reinstate":
                self.recording.reinstated += len(decision.instance_ids)


def note_of(decision: operator_pb2.Decision, began: float) -> Note:
    """Return a decision as the recording keeps it; ``began`` is its start in seconds since 1970."""
    return Note(
        t=max(0.0, unix_seconds(decision.time) - began),
        action=decision.action,
        reason=decision.reason,
        prefill_delta=decision.prefill_delta,
        decode_delta=decision.decode_delta,
        decision_id=decision.decision_id,
        inputs=dict(decision.inputs),
    )


async def counts_of(operator: Operator, service: str) -> dict[Role, Counter[str]]:
    """Return a service's instances of each role by state."""
    counts: dict[Role, Counter[str]] = {Role.PREFILL: Counter(), Role.DECODE: Counter()}
    for instance in await operator.instances(service):
        role, state = from_wire(Role, instance.role), from_wire(InstanceState, instance.state)
        if role in counts and state is not None:
            counts[role][state.value] += 1
    return counts
