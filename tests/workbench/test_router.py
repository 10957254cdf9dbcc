"""Real engines behind the real sglang-router: the handover, removal in mid-stream, retries."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from heteroscale_workbench.load import Arrival, FailureKind, LoadOptions, LoadReport, LoadRun
from heteroscale_workbench.router import Router, installed
from tests.workbench.sims import EngineProcess, engine_process, until, write_profile

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not installed(), reason="sglang-router is not installed"),
]
STREAMS = [Arrival(0.01 * i, 20, 150) for i in range(8)]  # about a second each; roomy, two


@dataclass
class Pair:
    """A router, two prefills and two decodes."""

    router: Router
    prefills: Sequence[EngineProcess]
    decodes: Sequence[EngineProcess]
    seen: Path

    def load(self, arrivals: Sequence[Arrival]) -> LoadRun:
        return LoadRun(self.router.url, arrivals, LoadOptions(seen_dir=self.seen, timeout=60))

    async def flowing(self, load: LoadRun) -> None:
        """Wait until every request has had its first token."""
        await until(lambda: load.snapshot().ttft.count == len(STREAMS))


@asynccontextmanager
async def _pair(folder: Path, *, retries: bool = False, roomy: bool = False) -> AsyncIterator[Pair]:
    profile = str(write_profile(folder, roomy=roomy))
    options = ("--profile", profile, "--seen-dir", str(folder / "seen"))
    async with AsyncExitStack() as stack:
        router = Router(log=folder / "router.log", retries=retries)
        engines = [
            stack.enter_async_context(engine_process(mode, *options))
            for mode in ("prefill", "prefill", "decode", "decode")
        ]
        _, started = await asyncio.gather(
            stack.enter_async_context(router), asyncio.gather(*engines)
        )
        prefills, decodes = started[:2], started[2:]
        await asyncio.gather(
            *(router.add(e.url, "prefill", e.bootstrap_port) for e in prefills),
            *(router.add(e.url, "decode") for e in decodes),
        )
        yield Pair(router, prefills, decodes, folder / "seen")


def _clean(report: LoadReport) -> None:
    assert report.failures == ()
    assert report.clean
    assert report.retried_requests == 0
    assert report.unseen == 0


async def test_a_router_starts_without_workers_and_says_so() -> None:
    async with Router() as router:
        assert await router.workers() == []
        report = await LoadRun(router.url, [Arrival(0, 3, 3)]).run()
    assert report.failures[0].kind is FailureKind.STATUS
    assert "HTTP 503" in report.failures[0].reason
    assert "No prefill workers available" in report.failures[0].reason
    assert router.pid is None


async def test_removal_and_return_in_mid_stream_lose_nothing(tmp_path: Path) -> None:
    async with _pair(tmp_path, roomy=True) as pair:
        prefill, decode = pair.prefills[0], pair.decodes[0]
        for engine, role, port in (
            (decode, "decode", None),
            (prefill, "prefill", prefill.bootstrap_port),
        ):
            load = pair.load(STREAMS)
            running = asyncio.create_task(load.run())
            await pair.flowing(load)
            await pair.router.remove(engine.url)
            assert load.snapshot().in_flight > 0  # else nothing was shown
            _clean(await running)
            before = await engine.metric("sglang:num_requests_total")
            _clean(await pair.load(STREAMS).run())
            assert await engine.metric("sglang:num_requests_total") == before
            await pair.router.add(engine.url, role, port)
        _clean(await pair.load(STREAMS).run())
        assert await decode.metric("sglang:num_requests_total") > 0
        served = [await e.metric("sglang:generation_tokens_total") for e in pair.decodes]
        assert sum(served) == 150 * len(STREAMS) * 5
        for engine in (*pair.prefills, *pair.decodes):
            assert await engine.metric("sglang:num_used_tokens") == 0
        assert await pair.router.retries() == 0


async def test_a_decode_stopped_in_mid_stream_cuts_exactly_its_own(tmp_path: Path) -> None:
    async with _pair(tmp_path, roomy=True) as pair:
        load = pair.load(STREAMS)
        running = asyncio.create_task(load.run())
        await pair.flowing(load)
        mine = await pair.decodes[0].metric("sglang:num_running_reqs")
        assert 0 < mine < len(STREAMS)
        pair.decodes[0].signal(signal.SIGTERM)
        report = await running
        assert {failure.kind for failure in report.failures} == {FailureKind.CUT}
        assert report.failed_requests == mine
        assert report.passed == len(STREAMS) - mine
        assert report.retried_requests == 0


@pytest.mark.parametrize("retries", [True, False])
async def test_the_routers_retries_are_seen_where_they_are_on(
    tmp_path: Path, retries: bool
) -> None:
    async with _pair(tmp_path, retries=retries) as pair:
        for prefill in pair.prefills:
            # Stopped, it never hands over; killed then, both halves of a request fail at once.
            prefill.signal(signal.SIGSTOP)
        load = pair.load([Arrival(0, 20, 5)])
        running = asyncio.create_task(load.run())
        waiting = "sglang:num_decode_transfer_queue_reqs"

        async def waits() -> bool:
            return sum([await decode.metric(waiting) for decode in pair.decodes]) == 1

        await until(waits)
        for prefill in pair.prefills:
            prefill.signal(signal.SIGKILL)
        report = await running
        assert report.failed_requests == 1
        assert "HTTP 50" in report.failures[0].reason
        # Without retries each role was reached once at most; with them, a role more than once.
        assert report.retried_requests == int(retries)
        assert (await pair.router.retries() > 0) is retries


async def test_a_router_comes_back_on_its_port_and_has_forgotten_its_workers(
    tmp_path: Path,
) -> None:
    async with _pair(tmp_path) as pair:
        await pair.router.kill()
        assert pair.router.pid is None
        await pair.router.start()
        assert await pair.router.workers() == []
        for engine in pair.prefills:
            await pair.router.add(engine.url, "prefill", engine.bootstrap_port)
        await pair.router.add(pair.decodes[0].url, "decode")
        _clean(await pair.load(STREAMS[:2]).run())
