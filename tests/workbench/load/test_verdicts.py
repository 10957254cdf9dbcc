"""Answers: streams understood, failures told apart, whole runs."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_workbench.load import (
    Arrival,
    FailureKind,
    LoadOptions,
    LoadRun,
)
from heteroscale_workbench.load.sse import EventScanner
from heteroscale_workbench.load.stats import LogHistogram
from heteroscale_workbench.router import free_port
from tests.workbench.load.answers import (
    DONE,
    LAST,
    STREAM,
    TOKEN,
    USAGE,
    Handler,
    answering,
    saying,
)
from tests.workbench.sims import serving, settings, until

# ---- streams -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_a_stream_is_understood_however_it_is_cut(cuts: list[int]) -> None:
    scanner, at = EventScanner(), 0
    for cut in [*sorted(cuts), len(STREAM)]:
        scanner.feed(STREAM[at:cut])
        at = cut
    ending = scanner.ending()
    assert scanner.events == 5
    assert (ending.done, ending.finish_reason, ending.tokens) == (True, "length", 3)
    assert ending.without_token == 2


def test_quantiles_are_within_five_percent() -> None:
    histogram = LogHistogram()
    assert histogram.quantile(0.5) is None
    for ms in range(1, 1001):
        histogram.observe(ms / 1000)
    assert histogram.mean == pytest.approx(0.5005)
    for share in (0.5, 0.95, 0.99):
        assert histogram.quantile(share) == pytest.approx(share, rel=0.06)


# ---- verdicts ------------------------------------------------------------------------------


async def _cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(TOKEN)
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("handler", "kind", "reason"),
    [
        (saying(b"no", 503), FailureKind.STATUS, "HTTP 503: no"),
        (_cut_short, FailureKind.CUT, "broke off after 1 events"),
        (saying(TOKEN + TOKEN + LAST + USAGE), FailureKind.CUT, "without [DONE]"),
        (saying(TOKEN + LAST + USAGE + DONE), FailureKind.WRONG, "2 tokens streamed, not 3"),
        (saying(TOKEN * 3 + USAGE + DONE), FailureKind.WRONG, "no finish reason"),
        (saying(TOKEN + TOKEN + LAST + DONE), FailureKind.WRONG, "usage counts None"),
        (saying(b""), FailureKind.CUT, "without [DONE]"),
    ],
)
async def test_only_a_perfect_answer_passes(
    handler: Handler, kind: FailureKind, reason: str
) -> None:
    async with answering(handler) as url:
        report = await LoadRun(url, [Arrival(0, 5, 3)]).run()
    assert (report.passed, report.failed_requests, report.clean) == (0, 1, False)
    assert report.failures[0].kind is kind
    assert reason in report.failures[0].reason


async def test_a_perfect_answer_passes_and_merged_events_may_be_allowed() -> None:
    async with answering(saying(STREAM)) as url:
        assert (await LoadRun(url, [Arrival(0, 5, 3)]).run()).clean
    async with answering(saying(LAST + USAGE + DONE)) as url:
        assert not (await LoadRun(url, [Arrival(0, 5, 3)]).run()).clean
        loose = LoadOptions(exact_events=False)
        assert (await LoadRun(url, [Arrival(0, 5, 3)], loose).run()).clean


async def test_nobody_listening_and_no_answer_are_failures_with_their_reason() -> None:
    report = await LoadRun(f"http://127.0.0.1:{free_port()}", [Arrival(0, 5, 3)]).run()
    assert report.failures[0].kind is FailureKind.REFUSED

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(silent) as url:
        report = await LoadRun(url, [Arrival(0, 5, 3)], LoadOptions(timeout=0.05)).run()
    assert report.failures[0].kind is FailureKind.TIMEOUT


async def test_arrivals_do_not_wait_for_answers() -> None:
    together = 0
    most = 0
    all_there = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal together, most
        together += 1
        most = max(most, together)
        if together == 20:
            all_there.set()
        await all_there.wait()
        return web.Response(body=STREAM)

    async with answering(slow) as url:
        report = await LoadRun(url, [Arrival(0.001 * i, 5, 3) for i in range(20)]).run()
    assert report.clean
    assert most == 20


async def test_a_run_against_the_simulated_engine_tells_everything() -> None:
    arrivals = [Arrival(0.01 * i, 10 + i, 3 + i) for i in range(10)]
    async with serving(settings()) as sim:
        load = LoadRun(sim.url, arrivals, LoadOptions(ttft_slo=60, tbt_slo=60))
        assert load.snapshot().planned == 10
        report = await load.run()
        end = load.snapshot()
    assert report.clean
    assert report.retried_requests is None  # nobody looked: unknown is not zero
    assert report.tokens == sum(a.output_tokens for a in arrivals) == end.tokens
    assert report.goodput_requests == 10
    assert report.ttft.count == 10
    assert report.tbt.count == report.tokens - 10
    assert (end.sent, end.in_flight, end.passed, end.failed) == (10, 0, 10, 0)
    assert report.document()["reasons"] == {}


async def test_goodput_counts_only_what_keeps_the_promise() -> None:
    async with serving(settings()) as sim:
        strict = LoadOptions(ttft_slo=1e-6)
        report = await LoadRun(sim.url, [Arrival(0, 5, 3)], strict).run()
    assert report.clean
    assert report.goodput_requests == 0


async def test_stop_ends_the_sending_but_not_what_is_in_flight() -> None:
    async with serving(settings()) as sim:
        load = LoadRun(sim.url, [Arrival(0, 5, 30), Arrival(3600, 5, 30)])
        task = asyncio.create_task(load.run())
        await until(lambda: load.snapshot().tokens > 0)
        load.stop()
        report = await task
    assert (report.requests, report.passed) == (1, 1)
