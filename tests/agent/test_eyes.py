"""The eyes as a whole: real servers, real files, the NVML stub; sources that fail side by side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import GpuHealth, Role, ScrapeQuality
from heteroscale_agent.config import AgentSpec, GpuSettings, RdmaSettings, Template
from heteroscale_agent.eyes import HostEyes
from heteroscale_agent.model import Report, TemplateInfo
from heteroscale_agent.ports import Eyes, GpuHolder, ScrapeTarget
from heteroscale_agent.probes.blocking import BlockingSource
from heteroscale_agent.probes.worker import Worker
from heteroscale_workbench.nvml_stub import STATE_VARIABLE, StubGpu, StubState
from heteroscale_workbench.rdma_tree import RdmaHost, RdmaPort
from tests.agent.metrics_server import MetricsServer, answer, hangs, metrics_server
from tests.agent.stub_process import run_script


class HandClock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def engine_text(tokens: float, *, running: float | str = 1, waiting: float = 0) -> str:
    return (
        f"vllm:generation_tokens_total {tokens}\n"
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        "vllm:kv_cache_usage_perc 0.25\n"
    )


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@asynccontextmanager
async def opened(clock: HandClock, tmp_path: Path, **settings: Any) -> AsyncIterator[HostEyes]:
    fields: dict[str, Any] = {
        "sample_interval": 1.0,
        "scrape_timeout": 20.0,
        "gpu": GpuSettings(source="none"),
        "rdma": RdmaSettings(root=tmp_path / "infiniband"),
    }
    spec = AgentSpec(coordinator="127.0.0.1:1").model_copy(update={**fields, **settings})
    eyes = await HostEyes.open(spec, clock=clock, environ={"HETEROSCALE_TOPOLOGY": "s1=pod-3"})
    try:
        yield eyes
    finally:
        await eyes.close()


@pytest.fixture
async def servers() -> AsyncIterator[tuple[MetricsServer, MetricsServer]]:
    async with metrics_server() as first, metrics_server() as second:
        yield first, second


def target(name: str, server: MetricsServer, engine: str = "vllm") -> ScrapeTarget:
    return ScrapeTarget(name, server.url, engine)


async def test_inventory(clock: HandClock, tmp_path: Path) -> None:
    RdmaPort(tmp_path / "infiniband").create()
    template = Template(command=("x",), role=Role.DECODE, gpus=2, engine="sglang")
    async with opened(
        clock, tmp_path, topology={"s2": "big"}, templates={"d": template}, labels={"a": "b"}
    ) as eyes:
        port: Eyes = eyes
        seen = port.inventory()
    assert [nic.name for nic in seen.nics] == ["mlx5_0"]
    assert seen.topology == {"s1": "pod-3", "s2": "big"}
    assert seen.templates == (TemplateInfo("d", Role.DECODE, 2, "sglang"),)
    assert seen.labels == {"a": "b"}
    assert seen.cpu_count > 0
    assert seen.memory_bytes > 0


async def test_counters_gauges_and_intervals(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    nic = RdmaPort(tmp_path / "infiniband").create()
    server, _ = servers
    async with opened(clock, tmp_path) as eyes:
        eyes.set_targets([target("a", server)])
        server.says(engine_text(500))
        first = await eyes.sample()
        clock.now += 2
        server.says(engine_text(620, running=3))
        nic.counts(port_xmit_data=25)
        second = await eyes.sample()
    assert (first.interval, second.interval) == (0.0, 2.0)
    (engine,) = second.engines
    assert (engine.quality, engine.generation_tokens, engine.running) == (ScrapeQuality.OK, 120, 3)
    assert engine.requests_finished is None
    assert second.nics[0].sent_octets == 100
    assert second.host.memory_used_bytes
    assert eyes.history() == [replace(one, gpus=(), nics=()) for one in (first, second)]


async def test_a_hanging_engine_delays_nobody(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    good, bad = servers
    good.says(engine_text(1))
    bad.reply = hangs
    async with opened(clock, tmp_path, sample_interval=0.2) as eyes:
        eyes.set_targets([target("bad", bad), target("good", good)])
        # The bad one has 20 s for its answer, this sample a tenth of a second.
        report = await eyes.sample()
        await eyes.sample()
        state = eyes.engine("good")
    assert {e.instance_id: e.quality for e in report.engines} == {
        "bad": ScrapeQuality.MISSING,
        "good": ScrapeQuality.OK,
    }
    assert state is not None
    assert (state.quality, state.scrape.in_flight, state.scrape.kv_usage) == (
        ScrapeQuality.OK,
        1,
        0.25,
    )
    assert bad.requests == 1, "never two scrapes of one engine at once"


async def test_a_slow_answer_counts_when_it_comes(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    server, _ = servers
    go = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(answer(engine_text(7)))

    server.reply = slow
    async with opened(clock, tmp_path, sample_interval=0.1) as eyes:
        eyes.set_targets([target("a", server)])
        assert (await eyes.sample()).engines[0].quality is ScrapeQuality.MISSING
        clock.now += 1
        go.set()
        async with asyncio.timeout(20):
            while (report := await eyes.sample()).engines[0].quality is not ScrapeQuality.OK:
                pass
    # Its age counts from when it was asked for, not from when it came.
    assert report.engines[0].age == 1.0


async def fails_after_one(
    eyes: HostEyes, clock: HandClock, server: MetricsServer, reply: Any
) -> tuple[Any, Any]:
    server.says(engine_text(100))
    eyes.set_targets([target("a", server)])
    await eyes.sample()
    clock.now += 1
    server.says(engine_text(150))
    await eyes.sample()
    clock.now += 1
    server.reply = reply
    report = await eyes.sample()
    return report.engines[0], eyes.engine("a")


async def test_an_engine_that_stops_answering_is_stale(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    async def slam(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with opened(clock, tmp_path) as eyes:
        report, state = await fails_after_one(eyes, clock, servers[0], slam)
    assert (report.quality, report.age, report.generation_tokens) == (ScrapeQuality.STALE, 1.0, 50)
    assert state.quality is ScrapeQuality.STALE
    assert state.message


@pytest.mark.parametrize(
    "reply",
    [
        answer("<html><body>login</body></html>", content_type="text/html"),
        answer("<html><body>login</body></html>"),
        answer("x" * (9 << 20)),
        answer("vllm:num_requests_running banana\n"),
        answer("", status="500 Internal Server Error"),
    ],
)
async def test_an_answer_that_is_no_metrics_is_missing(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer], reply: bytes
) -> None:
    async with opened(clock, tmp_path) as eyes:
        report, state = await fails_after_one(eyes, clock, servers[0], reply)
        servers[0].says(engine_text(175))
        clock.now += 1
        again = (await eyes.sample()).engines[0]
    assert (report.quality, report.generation_tokens, report.running) == (
        ScrapeQuality.MISSING,
        None,
        None,
    )
    assert state.scrape.in_flight is None
    assert (again.quality, again.generation_tokens) == (ScrapeQuality.OK, 75)


@pytest.mark.parametrize("value", ["NaN", "-3", "+Inf", "1e200"])
async def test_a_senseless_value_is_unknown_alone(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer], value: str
) -> None:
    async with opened(clock, tmp_path) as eyes:
        reply = answer(engine_text(200, running=value))
        report, state = await fails_after_one(eyes, clock, servers[0], reply)
    assert (report.quality, report.running, report.waiting) == (ScrapeQuality.OK, None, 0)
    assert report.generation_tokens == 100
    assert state.scrape.in_flight is None


async def test_an_engine_restart_counts_on(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    async with opened(clock, tmp_path) as eyes:
        report, _ = await fails_after_one(eyes, clock, servers[0], answer(engine_text(10)))
    assert report.generation_tokens == 60


async def test_an_unknown_engine_is_missing(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    async with opened(clock, tmp_path) as eyes:
        eyes.set_targets([target("a", servers[0], "teapot")])
        servers[0].says(engine_text(1))
        await eyes.sample()
        state = eyes.engine("a")
    assert state is not None
    assert (state.quality, state.message) == (
        ScrapeQuality.MISSING,
        "no mapping for engine 'teapot'",
    )


async def test_an_engine_started_without_metrics_is_told_how(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    body = '{"error":{"code":501,"message":"This server does not support metrics endpoint."}}'
    servers[0].reply = answer(body, content_type="application/json", status="501 Not Implemented")
    async with opened(clock, tmp_path) as eyes:
        eyes.set_targets([target("a", servers[0], "llamacpp")])
        await eyes.sample()
        state = eyes.engine("a")
    assert state is not None
    assert state.quality is ScrapeQuality.MISSING
    assert state.message == (
        "HTTP status 501: llama-server shows its metrics only when it is started with --metrics"
    )


async def test_targets_come_and_go(
    clock: HandClock, tmp_path: Path, servers: tuple[MetricsServer, MetricsServer]
) -> None:
    first, second = servers
    first.says(engine_text(100))
    second.reply = hangs
    async with opened(clock, tmp_path, sample_interval=0.1) as eyes:
        assert eyes.engine("a") is None
        eyes.set_targets([target("a", first), target("b", second)])
        before = eyes.engine("a")
        async with asyncio.timeout(20):
            while (await eyes.sample()).engines[0].quality is not ScrapeQuality.OK:
                pass
        eyes.set_targets([target("a", first)])
        first.says(engine_text(130))
        clock.now += 1
        async with asyncio.timeout(20):
            while (report := await eyes.sample()).engines[0].generation_tokens != 30:
                pass
        assert eyes.engine("b") is None
    assert before is not None
    assert before.quality is ScrapeQuality.MISSING
    assert [engine.instance_id for engine in report.engines] == ["a"]


async def test_history_holds_two_minutes(clock: HandClock, tmp_path: Path) -> None:
    async with opened(clock, tmp_path) as eyes:
        for _ in range(200):
            await eyes.sample()
            clock.now += 1
        kept = eyes.history()
    times = [report.sampled_at for report in kept]
    assert times[-1] == clock.now - 1
    assert 115 <= times[-1] - times[0] <= 120
    # A point every five seconds, and the newest.
    assert {b - a for a, b in pairwise(times[:-1])} == {5.0}


async def test_a_missing_driver_is_a_host_without_gpus(clock: HandClock, tmp_path: Path) -> None:
    settings = GpuSettings(library=tmp_path / "missing.so")
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        assert eyes.inventory().gpus == ()
        assert (await eyes.sample()).gpus == ()


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubState:
    state = StubState(tmp_path / "gpus.state", [StubGpu(utilization_percent=10), StubGpu()])
    monkeypatch.setenv(STATE_VARIABLE, str(state.path))
    return state


async def seen(
    eyes: HostEyes, clock: HandClock, until: Callable[[Report], bool], step: float = 1.0
) -> Report:
    """Sample until a report is as it should be; each is in the order of the inventory."""
    async with asyncio.timeout(20):
        while True:
            clock.now += step
            report = await eyes.sample()
            assert len(report.gpus) == len(eyes.inventory().gpus)
            if until(report):
                return report


async def test_gpus_that_come_and_go_are_another_inventory(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    gpus.write()
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        first = eyes.inventory()
        await seen(eyes, clock, lambda report: report.gpus[0].health is GpuHealth.OK)
        assert eyes.inventory() is first, "nothing has changed"
        eyes.set_holders([GpuHolder("i-1", (0, 1), 1)])
        gpus.gpus = [gpus.gpus[0], StubGpu(name="NVIDIA L20", utilization_percent=20)]
        gpus.gpus[1] = replace(gpus.gpus[1], uuid="GPU-new")
        gpus.write()
        report = await seen(eyes, clock, lambda report: len(report.gpus) > 2, step=5.0)
        after = eyes.inventory()
    assert [gpu.type for gpu in after.gpus] == ["H20", "H20", "L20"]
    assert [gpu.index for gpu in after.gpus] == [0, 1, 2]
    assert [gpu.utilization_percent for gpu in report.gpus] == [10, None, 20]
    assert report.gpus[1].health is GpuHealth.LOST


async def test_who_is_on_a_gpu_now_is_told_to_whoever_asks(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    gpus.change(1, pids=(os.getpid(),))
    gpus.write()
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        await seen(eyes, clock, lambda report: report.gpus[1].process_count == 1)
        told = {gpu.index: reading.processes for gpu, reading in eyes.gpus_now()}
        assert told[0] == ()
        assert [process.pid for process in told[1]] == [os.getpid()]
        clock.now += 60
        assert eyes.gpus_now() == (), "nobody knows any more"


async def test_a_driver_that_comes_later_than_the_agent(
    clock: HandClock, tmp_path: Path, nvml_library: Path, gpus: StubState
) -> None:
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        assert (await eyes.sample()).gpus == ()
        assert eyes.inventory().gpus == ()
        gpus.write()
        report = await seen(eyes, clock, lambda report: len(report.gpus) == 2, step=5.0)
        assert eyes.inventory().driver_version == "580.65.06"
    assert report.gpus[0].utilization_percent == 10


async def test_what_an_engine_takes_of_its_gpus(
    clock: HandClock,
    tmp_path: Path,
    nvml_library: Path,
    gpus: StubState,
    servers: tuple[MetricsServer, MetricsServer],
) -> None:
    leader = os.getsid(0)
    gpus.change(1, pids=(os.getpid(),), memory_used_mib=300, utilization_percent=60)
    gpus.write()
    servers[0].says(engine_text(1))
    settings = GpuSettings(library=nvml_library)
    async with opened(clock, tmp_path, gpu=settings, state_dir=tmp_path) as eyes:
        eyes.set_targets([target("i-1", servers[0])])
        eyes.set_holders([GpuHolder("i-1", (1,), leader)])
        report = await seen(
            eyes, clock, lambda report: report.engines[0].gpu_sm_percent is not None
        )
    assert report.engines[0].gpu_memory_used_bytes == 300 << 20
    assert report.engines[0].gpu_sm_percent == 60.0
    assert [gpu.foreign_process_count for gpu in report.gpus] == [0, 0]


async def test_a_blocking_source_is_read_once_at_a_time_and_goes_stale(clock: HandClock) -> None:
    worker = Worker("test")
    values: Iterator[int] = iter(range(10))
    source = BlockingSource("test", worker, lambda: next(values), clock)
    await source.start()
    assert source.latest(clock.now) == 0
    clock.now += 10
    assert source.latest(clock.now - 1) is None
    first = source.start()
    assert first is source.start() or first.done()
    await first
    assert source.latest(clock.now) == 1
    worker.close()


async def test_a_blocking_source_that_raises_keeps_what_it_last_said(clock: HandClock) -> None:
    def read() -> int:
        if clock.now > 1000:
            raise OSError("driver gone")
        return 5

    worker = Worker("test")
    source = BlockingSource("test", worker, read, clock)
    await source.start()
    clock.now += 1
    with pytest.raises(OSError, match="driver gone"):
        await source.start()
    assert source.latest(1000.0) == 5
    assert source.latest(1001.0) is None
    worker.close()


async def test_shares_and_limits_of_ports(clock: HandClock, tmp_path: Path) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    rdma = RdmaSettings(root=host.infiniband, limits={"mlx5_1": 200.0}, rails_in_order=True)
    async with opened(clock, tmp_path, rdma=rdma) as eyes:
        await eyes.sample()
        clock.now += 2
        for port in host.ports:
            port.transfer(received=25 * 10**9, sent=10**9)
        report = await eyes.sample()
        assert [nic.rail for nic in eyes.inventory().nics] == [0, 1]
    assert [nic.share for nic in report.nics] == [0.25, 0.5]


async def test_a_reloaded_driver_changes_the_inventory_and_loses_no_count(
    clock: HandClock, tmp_path: Path
) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    first, second = host.ports
    async with opened(clock, tmp_path, rdma=RdmaSettings(root=host.infiniband)) as eyes:
        await eyes.sample()
        first.transfer(sent=400)
        clock.now += 1
        seen = [await eyes.sample()]
        second.remove()
        first.transfer(sent=400)
        clock.now += 30
        seen.append(await eyes.sample())
        assert [nic.name for nic in eyes.inventory().nics] == ["mlx5_0"]
        second.reload()
        second.transfer(sent=40)
        clock.now += 30
        seen.append(await eyes.sample())
        assert [nic.name for nic in eyes.inventory().nics] == ["mlx5_0", "mlx5_1"]
    assert [[nic.sent_octets for nic in report.nics] for report in seen] == [
        [400, 0],
        [800],
        [800, 40],
    ]


def test_the_first_inventory_tells_how_far_each_port_is_from_each_gpu(
    nvml_library: Path, tmp_path: Path
) -> None:
    host = RdmaHost.build(tmp_path, pairs=2)
    state = tmp_path / "gpus.state"
    StubState(state, [StubGpu()] * 2).write()
    arguments = (str(nvml_library), str(host.infiniband), str(host.pci))
    assert run_script(DISTANCES, state, *arguments) == [["pix", "sys"], ["sys", "pix"]]


DISTANCES = """
import asyncio, json, sys
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes

async def main():
    spec = AgentSpec.model_validate({
        "coordinator": "127.0.0.1:1", "gpu": {"library": sys.argv[1]},
        "rdma": {"root": sys.argv[2], "pciRoot": sys.argv[3]},
    })
    eyes = await HostEyes.open(spec, environ={})
    print(json.dumps([gpu.nic_distances for gpu in eyes.inventory().gpus]))
    await eyes.close()

asyncio.run(main())
"""

HANGING_GPU = """
import asyncio, json, sys
from pathlib import Path
from heteroscale_agent.config import AgentSpec
from heteroscale_agent.eyes import HostEyes
from heteroscale_workbench.nvml_stub import StubGpu, StubState

async def main():
    state = StubState(Path(sys.argv[2]), [StubGpu(utilization_percent=37)])
    state.write()
    now = [0.0]
    spec = AgentSpec.model_validate({
        "coordinator": "127.0.0.1:1", "sampleInterval": "0.5s", "scrapeTimeout": "0.5s",
        "gpu": {"library": sys.argv[1]}, "rdma": {"root": sys.argv[3]},
        "stateDir": sys.argv[3],
    })
    eyes = await HostEyes.open(spec, clock=lambda: now[0], environ={})
    seen = []
    def note(report):
        reading = report.gpus[0]
        seen.append([reading.health, reading.utilization_percent, report.nics[0].active])
    async def until(healthy):
        while True:
            report = await eyes.sample()
            if healthy(report):
                return note(report)
    await until(lambda report: report.gpus[0].health == "ok" and report.nics[0].active)
    state.change(0, delay_ms=600_000)
    state.write()
    now[0] += 1
    await until(lambda report: report.nics[0].active)
    now[0] += 10
    await until(lambda report: report.nics[0].active)
    await eyes.close()
    print(json.dumps(seen))

asyncio.run(main())
"""


def test_a_driver_that_hangs_blinds_only_the_gpus_and_lets_the_agent_end(
    nvml_library: Path, tmp_path: Path
) -> None:
    RdmaPort(tmp_path / "infiniband").create()
    state = tmp_path / "gpus.state"
    arguments = (str(nvml_library), str(state), str(tmp_path / "infiniband"))
    # Fresh; then still fresh enough; then unknown. The process ends though a thread hangs.
    assert run_script(HANGING_GPU, state, *arguments) == [
        [GpuHealth.OK, 37, True],
        [GpuHealth.OK, 37, True],
        [GpuHealth.ERROR, None, True],
    ]
