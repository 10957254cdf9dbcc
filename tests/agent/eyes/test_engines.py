"""Engines as the eyes see them: real servers, scraped; what hangs, lies, restarts or goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import ScrapeQuality
from heteroscale_agent.eyes import HostEyes
from heteroscale_workbench.rdma_tree import RdmaPort
from tests.agent.eyes.rig import HandClock, engine_text, opened, target
from tests.agent.metrics_server import MetricsServer, answer, hangs


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
