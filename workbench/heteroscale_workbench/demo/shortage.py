"""The scene of a shortage: two services on too few GPUs, and the one of lower priority gives.

`batch` (low) has grown into nearly all GPUs when `chat` (high) needs more than are free. `batch` then
shrinks, softly, to what is essential; when `chat` has calmed down it grows again by its own demand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from heteroscale.documents import write_document
from heteroscale.words import Role
from heteroscale_workbench.cluster.local import Layout, LocalCluster, two_minipods, until
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.demo.profile import OUTPUT, PROMPT, RATIO, DemoProfile
from heteroscale_workbench.demo.recording import Recording, Sample
from heteroscale_workbench.demo.run import (
    FIRST,
    LAST_ANSWERS,
    PACE_INTERVAL,
    SAMPLE_INTERVAL,
    SERVICE_READY,
    SHOWN,
    DemoOptions,
    counts_of,
    note_of,
)
from heteroscale_workbench.demo.traffic import Pacer, generated
from heteroscale_workbench.load.run import LoadOptions, LoadRun

HIGH, LOW = "chat", "batch"
GIVES = "of higher priority needs"
"""What the reason of a scale-in for another service says."""
ESSENTIAL = {Role.PREFILL: 1, Role.DECODE: 2}
FULL = {Role.PREFILL: 2, Role.DECODE: 4}
"""What each of them needs at the top of its traffic; there are GPUs for one and a half of it."""
PROFILE = DemoProfile(
    agents=5, max_prefill=FULL[Role.PREFILL], max_decode=FULL[Role.DECODE], divisor=20.0
)
PACE: Mapping[str, str] = {"cooldownOut": "5s", "cooldownIn": "8s", "observation": "6s"}
"""Shorter than the demo's own: it is not soft scale-in that this scene is about."""


@dataclass(frozen=True, slots=True)
class Act:
    """A part of the story: output tokens/s asked of each, and when it has been told."""

    name: str
    high: float
    low: float
    most: float
    """Seconds after which the story goes on, told or not."""
    told: Callable[[Recording, Recording], bool]


def story() -> tuple[Act, ...]:
    """Return the acts in order."""
    return (
        Act("batch fills the fleet", 50.0, 190.0, 45.0, lambda _, low: serves(low, FULL)),
        Act("chat needs more", 220.0, 190.0, 60.0, served_by),
        Act("chat calms down", 30.0, 190.0, 75.0, lambda _, low: serves(low, FULL)),
    )


def served_by(high: Recording, low: Recording) -> bool:
    """Return whether the higher service has what it needs, and has it of the lower one."""
    return serves(high, FULL) and gave(low)


def serves(recording: Recording, least: Mapping[Role, int]) -> bool:
    """Return whether so many are in service now."""
    now = recording.samples[-1] if recording.samples else None
    return now is not None and all(now.in_service(role) >= n for role, n in least.items())


def gave(recording: Recording) -> bool:
    """Return whether the service gave instances to the other."""
    return any(note.action == "scale_in" and GIVES in note.reason for note in recording.notes)


def complaints(high: Recording, low: Recording) -> list[str]:
    """Return what the scene should have shown and did not; empty: it passed."""
    found = []
    for name, one in ((HIGH, high), (LOW, low)):
        if one.failures:
            found.append(
                f"{name}: {len(one.failures)} requests failed; the first: {one.failures[0]}"
            )
        if one.retried or one.unseen:
            found.append(f"{name}: {one.retried} requests were retried, {one.unseen} not watched")
        if not one.requests:
            found.append(f"{name}: no request was sent")
    if any(high.peak(role) < n for role, n in FULL.items()):
        found.append(f"{HIGH} never grew to what its traffic needs")
    if not gave(low):
        return [*found, f"{LOW} gave nothing"]
    first = next(note.t for note in low.notes if note.action == "scale_in" and GIVES in note.reason)
    after = [sample for sample in low.samples if sample.t >= first]
    for role, least in ESSENTIAL.items():
        counts = [sample.in_service(role) for sample in after]
        if min(counts) < least:
            found.append(f"{LOW}: {role} fell to {min(counts)}, {least} are essential")
        if counts[-1] <= min(counts):
            found.append(f"{LOW}: {role} did not grow again")
    return found


def summary(high: Recording, low: Recording) -> dict[str, Any]:
    """Return the figures that ``--json`` writes."""
    wrong = complaints(high, low)
    return {
        "scene": "shortage",
        "services": {name: _figures(one) for name, one in ((HIGH, high), (LOW, low))},
        "seconds": round(high.samples[-1].t, 1) if high.samples else 0.0,
        "ok": not wrong,
        "complaints": wrong,
    }


def _figures(one: Recording) -> dict[str, Any]:
    return {
        "requests": one.requests,
        "failed_requests": len(one.failures),
        "retried_requests": one.retried,
        "max_prefill": one.peak(Role.PREFILL),
        "max_decode": one.peak(Role.DECODE),
        "given": sum(
            -note.prefill_delta - note.decode_delta
            for note in one.notes
            if note.action == "scale_in" and GIVES in note.reason
        ),
        "decisions": [f"{note.t:.0f} s {note.action}: {note.reason}" for note in one.notes],
    }


@dataclass(slots=True)
class Player:
    """One of the two services: its traffic, and what was seen of it."""

    name: str
    load: LoadRun
    pacer: Pacer
    recording: Recording = field(default_factory=lambda: Recording(RATIO))
    offered: float = 0.0
    noted: set[str] = field(default_factory=set)

    async def look(self, operator: Operator, phase: str, t: float, began: float) -> None:
        """Take a sample and note what was decided."""
        counts = await counts_of(operator, self.name)
        for decision in reversed(await operator.decisions(self.name, 30)):
            if decision.action != "hold" and decision.decision_id not in self.noted:
                self.noted.add(decision.decision_id)
                self.recording.notes.append(note_of(decision, began))
        seen = self.load.snapshot()
        self.recording.requests = seen.sent
        self.recording.samples.append(
            Sample(
                *(t, phase, self.offered, seen.tokens_per_s, seen.in_flight),
                *(seen.ttft.mean, seen.tbt.mean),
                prefill={state: counts[Role.PREFILL][state] for state in SHOWN},
                decode={state: counts[Role.DECODE][state] for state in SHOWN},
                failed=seen.failed,
            )
        )

    def settle(self) -> None:
        """Take over what became of the requests."""
        report, into = self.load.report(), self.recording
        into.requests, into.retried = report.requests, report.retried_requests or 0
        into.unseen = report.unseen or 0
        into.failures = [f"{f.kind.value}: {f.reason}" for f in report.failures]
        unanswered = report.requests - report.passed - len(report.failures)
        into.failures += ["never answered"] * unanswered


class Scene:
    """One run of it."""

    def __init__(self, options: DemoOptions, tell: Callable[[str], None]) -> None:
        self.options = options
        self.players: list[Player] = []
        self._tell = tell
        self._phase = "starting"
        self._began = self._wall_began = 0.0

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def run(self) -> tuple[Recording, Recording]:
        """Play it; return what was seen of the high and of the low service.

        Raises:
            ProcessError, RouterError, BuildError: a part could not be started.

        """
        layout = Layout(
            self.options.directory,
            hosts=two_minipods(PROFILE.agents, PROFILE.gpus_per_agent),
            rules=PROFILE.rules(),
            engine_startup=PROFILE.startup,
            routers=2,
        )
        cluster = LocalCluster(layout)
        try:
            await cluster.start()
            async with cluster.operator() as operator:
                await self._bring_up(cluster, operator)
                await self._play(operator)
        finally:
            await cluster.stop()
        return self.players[0].recording, self.players[1].recording

    async def _bring_up(self, cluster: LocalCluster, operator: Operator) -> None:
        names = ((HIGH, 10), (LOW, 0))
        for (name, priority), router in zip(names, cluster.routers, strict=True):
            await operator.apply(write_document(document(name, priority, router.url)))
            load = LoadRun(router.url, options=LoadOptions(seen_dir=cluster.seen_dir), live=True)
            arrivals = generated(PROMPT, OUTPUT, self.options.seed + priority)
            self.players.append(Player(name, load, Pacer(arrivals, OUTPUT)))

        async def ready() -> bool:
            cluster.coordinator.require()
            found = [await counts_of(operator, name) for name, _ in names]
            return all(c[role]["in_service"] >= n for c in found for role, n in FIRST.items())

        await until(ready, SERVICE_READY, "the first instances of both services in service")

    async def _play(self, operator: Operator) -> None:
        self._began, self._wall_began = asyncio.get_running_loop().time(), time.time()
        sending = [asyncio.create_task(player.load.run()) for player in self.players]
        watching = asyncio.create_task(self._watch(operator))
        try:
            for act in story():
                await self._act(act)
            for player in self.players:
                player.load.stop()
            async with asyncio.timeout(LAST_ANSWERS):
                await asyncio.gather(*sending)
        finally:
            tasks = [watching, *sending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for player in self.players:
                player.settle()

    async def _act(self, act: Act) -> None:
        self._phase = act.name
        self._tell(f"{self._now:5.0f} s  {act.name}")
        high, low = self.players
        high.offered, low.offered = act.high, act.low
        start = last = self._now
        while self._now - start < act.most:
            now = self._now
            for player in self.players:
                for arrival in player.pacer.advance(now - last, player.offered):
                    player.load.offer(arrival.prompt, arrival.output)
            last = now
            if act.told(high.recording, low.recording):
                return
            await asyncio.sleep(PACE_INTERVAL)

    async def _watch(self, operator: Operator) -> None:
        while True:
            with suppress(Error):  # the coordinator may be away for a moment
                for player in self.players:
                    await player.look(operator, self._phase, self._now, self._wall_began)
            await asyncio.sleep(SAMPLE_INTERVAL)


def document(name: str, priority: int, router: str) -> dict[str, Any]:
    """Return one of the services as plain data."""
    plain: dict[str, Any] = PROFILE.service([router], name)
    spec = plain["spec"]
    spec["priority"] = priority
    for role, least in ESSENTIAL.items():
        rules = spec["roles"][role.value]
        rules["essential"] = least
        # Two services share what the demo's one has: half the traffic for each instance.
        rules["target"] = {kind: target / 2 for kind, target in rules["target"].items()}
    spec["policy"] |= {
        **PACE,
        "shortage": {"patience": "2s", "hourly": 1.0, "observation": "2s"},
    }
    return plain
