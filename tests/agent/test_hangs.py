"""One source that hangs, for every kind of source: the others' reports go out on time and fresh."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest

from heteroscale.words import GpuHealth, ScrapeQuality
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.model import EngineReport, Report
from heteroscale_agent.names import Names
from heteroscale_agent.outbox import Outbox
from heteroscale_agent.ports import ScrapeTarget
from heteroscale_agent.probes.http import get_text
from heteroscale_agent.probes.watch import EngineWatch
from heteroscale_agent.rooms import Pace, sample
from tests.agent import virtual
from tests.agent.metrics_server import MetricsServer, answer, hangs, metrics_server
from tests.agent.twin_host import TwinEyes

HEALTHY_S, HANGING_S = 5, 30
KINDS = ("gpu", "nic", "engine hangs", "engine drips", "engine stops midway", "name hangs")


@dataclass
class Stage:
    """Eyes on healthy sources, and two engines of which the second may be made to hang."""

    eyes: TwinEyes
    steady: MetricsServer
    other: MetricsServer
    resolver: threading.Event

    def hang(self, kind: str) -> None:
        """Let one source hang from now on."""
        if kind == "gpu":
            self.eyes.gpu_worker.hangs = True
        elif kind == "nic":
            self.eyes.nic_worker.hangs = True
        elif kind == "engine hangs":
            self.other.reply = hangs
        elif kind == "engine drips":
            self.other.reply = drips
        elif kind == "engine stops midway":
            self.other.reply = stops_midway
        else:
            self.resolver.clear()


async def drips(writer: asyncio.StreamWriter) -> None:
    """Answer with a byte a second."""
    writer.write(answer("x" * 1000)[:-1000])
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


async def stops_midway(writer: asyncio.StreamWriter) -> None:
    writer.write(answer("vllm:num_requests_running 1\n" * 50)[:-700])
    await asyncio.Event().wait()


async def counts(writer: asyncio.StreamWriter) -> None:
    """Say how many seconds have passed."""
    now = asyncio.get_running_loop().time()
    writer.write(
        answer(
            f"vllm:generation_tokens_total {now}\nvllm:num_requests_running {now % 100}\n"
            "vllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.5\n"
        )
    )


class NamedWatch(EngineWatch):
    """Reads an engine whose name is looked up by a resolver of the test's."""

    names: Names

    async def _text(self, url: str) -> str:
        return await get_text(url, deadline=self._timeout, names=self.names)


class NamedEyes(TwinEyes):
    """Eyes whose engine `other` has a name."""

    names: Names

    def _watch(self, target: ScrapeTarget) -> EngineWatch:
        if target.instance_id != "other":
            return super()._watch(target)
        watch = NamedWatch(target, self._clock, self._spec.scrape_timeout)
        watch.names = self.names
        return watch


class PromptNames(Names):
    """Answers at once while the resolver is well; then asks it, in a thread, as ever."""

    def __init__(self, well: threading.Event, gone: threading.Event) -> None:
        def ask(_: str) -> tuple[str, ...]:
            gone.wait()
            raise OSError("no name server")

        super().__init__(ask)
        self._well = well

    async def addresses(self, host: str) -> tuple[str, ...]:
        return ("127.0.0.1",) if self._well.is_set() else await super().addresses(host)


@pytest.fixture
def gone() -> Iterator[threading.Event]:
    """Return what ends the threads that hang."""
    event = threading.Event()
    yield event
    event.set()


@asynccontextmanager
async def stage(gone: threading.Event) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        steady = await stack.enter_async_context(metrics_server())
        other = await stack.enter_async_context(metrics_server())
        steady.reply = other.reply = counts
        well = threading.Event()
        well.set()
        eyes = NamedEyes(AgentSpec(coordinator="127.0.0.1:1"), asyncio.get_running_loop().time)
        eyes.names = PromptNames(well, gone)
        await eyes.find()
        eyes.set_targets(
            [
                ScrapeTarget("steady", steady.url, "vllm"),
                ScrapeTarget("other", other.url.replace("127.0.0.1", "other.test"), "vllm"),
            ]
        )
        stack.push_async_callback(eyes.close)
        yield Stage(eyes, steady, other, well)


async def watch(kind: str, gone: threading.Event) -> list[tuple[float, Report]]:
    """Return every report of a run, with the second at which it was there to be sent."""
    loop, outbox, seen = asyncio.get_running_loop(), Outbox(), list[tuple[float, Report]]()
    async with stage(gone) as staged:
        sampling = asyncio.create_task(sample(staged.eyes, outbox, Pace(1.0)))
        hang: Callable[[str], None] | None = staged.hang
        while len(seen) < HEALTHY_S + HANGING_S:
            report = await outbox.take()
            assert isinstance(report, Report)
            seen.append((loop.time(), report))
            if hang is not None and len(seen) == HEALTHY_S:
                hang(kind)
                hang = None
        sampling.cancel()
    return seen


def engine(report: Report, name: str) -> EngineReport:
    return next(engine for engine in report.engines if engine.instance_id == name)


@pytest.fixture(params=KINDS)
def told(request: pytest.FixtureRequest, gone: threading.Event) -> tuple[str, list[Report]]:
    """Return the kind of source that hung and the reports since, having looked at their times."""
    kind: str = request.param
    seen = virtual.run(watch(kind, gone))
    times = [at for at, _ in seen]
    late = [at - (times[0] + place) for place, at in enumerate(times)]
    # On the second, each of them; only the sample that finds it hanging waits, for half a second.
    assert [round(lag, 3) for lag in late if round(lag, 3)] == [0.5]
    assert late[HEALTHY_S] != 0
    return kind, [report for _, report in seen[HEALTHY_S:]]


def test_a_source_that_hangs_delays_no_report_and_blinds_no_other(
    told: tuple[str, list[Report]],
) -> None:
    kind, reports = told
    tokens = [engine(report, "steady").generation_tokens or 0.0 for report in reports]
    octets = [report.nics[0].sent_octets or 0 for report in reports]
    assert all(b > a for a, b in pairwise(tokens))
    assert {engine(report, "steady").quality for report in reports} == {ScrapeQuality.OK}
    assert max(engine(report, "steady").age for report in reports) <= 0.5
    assert all(report.host.load_1m is not None for report in reports)
    if kind != "gpu":
        assert {gpu.health for report in reports for gpu in report.gpus} == {GpuHealth.OK}
        assert len({report.gpus[0].utilization_percent for report in reports}) == HANGING_S
    if kind != "nic":
        assert all(b > a for a, b in pairwise(octets))
    if kind in {"gpu", "nic"}:
        assert engine(reports[-1], "other").quality is ScrapeQuality.OK


def test_what_hangs_is_soon_unknown(told: tuple[str, list[Report]]) -> None:
    kind, reports = told
    last = reports[-1]
    if kind == "gpu":
        assert {gpu.health for gpu in last.gpus} == {GpuHealth.ERROR}
        assert last.gpus[0].utilization_percent is None
    elif kind == "nic":
        assert last.nics[0].sent_octets is None
    else:
        assert engine(last, "other").quality is ScrapeQuality.STALE
        assert engine(last, "other").age >= HANGING_S - 2
