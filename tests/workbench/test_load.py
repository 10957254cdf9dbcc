"""Load: traces, shapes, streams, verdicts and whole runs."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_workbench.load import (
    Arrival,
    Curve,
    FailureKind,
    Lengths,
    LoadOptions,
    LoadRun,
    Scaling,
    TraceError,
    generate,
    read_trace,
    scale,
)
from heteroscale_workbench.load.__main__ import arrivals_of, parser, run
from heteroscale_workbench.load.sse import EventScanner
from heteroscale_workbench.load.stats import LogHistogram
from heteroscale_workbench.router import free_port
from heteroscale_workbench.seen import SeenReader, SeenWriter
from tests.workbench.sims import serving, settings, until

# ---- traces --------------------------------------------------------------------------------

PLAIN = "t_s,input_tokens,output_tokens\n3.5,10,20\n0.000,374,44\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-17 18:15:46.6805900,1,0\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    '{"timestamp": 27482, "input_length": 7322, "output_length": 490, "hash_ids": []}\n'
)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, [(0.0, 374, 44), (3.5, 10, 20)]),
        (AZURE, [(0.0, 374, 44), (4.314579, 396, 109), (86400.0, 1, 1)]),
        (MOONCAKE, [(0.0, 6758, 500), (27.482, 7322, 490)]),
    ],
    ids=["plain", "azure", "mooncake"],
)
def test_every_format_is_read(
    tmp_path: Path, text: str, expected: list[tuple[float, int, int]], packed: bool
) -> None:
    path = tmp_path / ("trace.gz" if packed else "trace")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    read = read_trace(path)
    assert [(a.input_tokens, a.output_tokens) for a in read] == [(i, o) for _, i, o in expected]
    assert [a.at for a in read] == pytest.approx([at for at, _, _ in expected], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3\n", "unknown format"),
        ("t_s,input_tokens,output_tokens\n0,1,1\nx,1,1\n", "trace.csv:3: t_s"),
        ("t_s,input_tokens,output_tokens\n-1,1,1\n", "negative"),
        ("t_s,input_tokens,output_tokens\nnan,1,1\n", "finite"),
        ('{"timestamp": 0}\n', "input_length"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "yesterday"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=complaint):
        read_trace(path)
    with pytest.raises(TraceError):
        read_trace(tmp_path / "missing.csv")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(PLAIN.encode())[:-9])
    with pytest.raises(TraceError):
        read_trace(tmp_path / "cut.gz")


ROWS = [Arrival(float(second), 100, 10) for second in range(100)]


def test_scaling_is_exact_where_it_can_be() -> None:
    assert scale(ROWS, Scaling()) == ROWS
    faster = scale(ROWS, Scaling(time=10, start=50, duration=2, max_input=7, max_output=3))
    assert [a.at for a in faster] == pytest.approx([i / 10 for i in range(20)])
    assert {(a.input_tokens, a.output_tokens) for a in faster} == {(7, 3)}
    assert len(scale(ROWS, Scaling(rate=3))) == 300


@given(st.floats(0, 4), st.integers(0, 1000))
def test_rate_scaling_keeps_the_mean_and_repeats_itself(rate: float, seed: int) -> None:
    played = scale(ROWS, Scaling(rate=rate, jitter=0.5), seed)
    assert played == scale(ROWS, Scaling(rate=rate, jitter=0.5), seed)
    assert abs(len(played) - 100 * rate) <= 35
    assert played == sorted(played, key=lambda a: a.at)


# ---- shapes --------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_traffic_and_another_other() -> None:
    curve, lengths = Curve.constant(20), Lengths(spread=0.5)
    assert generate(curve, lengths, 30, 7) == generate(curve, lengths, 30, 7)
    assert generate(curve, lengths, 30, 7) != generate(curve, lengths, 30, 8)


def test_arrivals_follow_the_curve() -> None:
    curve = Curve.humps(1, [(50, 20, 40)])
    assert curve.rate(0) == curve.rate(30) == curve.rate(70) == curve.rate(500) == 1
    assert curve.rate(50) == pytest.approx(20)
    assert 1 < curve.rate(40) < 20
    assert curve.rate(40) == pytest.approx(curve.rate(60))
    times = [a.at for a in generate(curve, Lengths(), 100, 1)]
    assert times == sorted(times)
    inside = sum(30 < at < 70 for at in times)
    assert inside > 5 * (len(times) - inside)


def test_ramps_days_and_overlapping_humps() -> None:
    assert Curve.ramp(0, 10, 100).rate(25) == 2.5
    day = Curve.diurnal(50, 240)
    assert max(day.rates) == 50
    assert day.rate(50) < 10
    both = Curve.humps(1, [(10, 5, 10), (12, 9, 10)])
    assert both.rate(12) == pytest.approx(9)
    assert generate(Curve.constant(0), Lengths(), 10) == []
    with pytest.raises(ValueError, match="not negative"):
        Curve.constant(-1)


def test_lengths_have_their_mean_and_their_bounds() -> None:
    lengths = Lengths(200, 50, spread=0.8, max_input=400, max_output=60)
    made = generate(Curve.constant(100), lengths, 60, 3)
    assert max(a.input_tokens for a in made) == 400
    assert min(a.output_tokens for a in made) >= 1
    wide = generate(Curve.constant(100), Lengths(200, 50, spread=0.8), 60, 3)
    assert sum(a.input_tokens for a in wide) / len(wide) == pytest.approx(200, rel=0.1)


# ---- streams -------------------------------------------------------------------------------

TOKEN = b'data: {"choices":[{"text":" a","finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"text":" a","finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = TOKEN + TOKEN + LAST + USAGE + DONE


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

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _answering(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _saying(body: bytes, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    return handler


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
        (_saying(b"no", 503), FailureKind.STATUS, "HTTP 503: no"),
        (_cut_short, FailureKind.CUT, "broke off after 1 events"),
        (_saying(TOKEN + TOKEN + LAST + USAGE), FailureKind.CUT, "without [DONE]"),
        (_saying(TOKEN + LAST + USAGE + DONE), FailureKind.WRONG, "2 tokens streamed, not 3"),
        (_saying(TOKEN * 3 + USAGE + DONE), FailureKind.WRONG, "no finish reason"),
        (_saying(TOKEN + TOKEN + LAST + DONE), FailureKind.WRONG, "usage counts None"),
        (_saying(b""), FailureKind.CUT, "without [DONE]"),
    ],
)
async def test_only_a_perfect_answer_passes(
    handler: Handler, kind: FailureKind, reason: str
) -> None:
    async with _answering(handler) as url:
        report = await LoadRun(url, [Arrival(0, 5, 3)]).run()
    assert (report.passed, report.failed_requests, report.clean) == (0, 1, False)
    assert report.failures[0].kind is kind
    assert reason in report.failures[0].reason


async def test_a_perfect_answer_passes_and_merged_events_may_be_allowed() -> None:
    async with _answering(_saying(STREAM)) as url:
        assert (await LoadRun(url, [Arrival(0, 5, 3)]).run()).clean
    async with _answering(_saying(LAST + USAGE + DONE)) as url:
        assert not (await LoadRun(url, [Arrival(0, 5, 3)]).run()).clean
        loose = LoadOptions(exact_events=False)
        assert (await LoadRun(url, [Arrival(0, 5, 3)], loose).run()).clean


async def test_nobody_listening_and_no_answer_are_failures_with_their_reason() -> None:
    report = await LoadRun(f"http://127.0.0.1:{free_port()}", [Arrival(0, 5, 3)]).run()
    assert report.failures[0].kind is FailureKind.REFUSED

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with _answering(silent) as url:
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

    async with _answering(slow) as url:
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


# ---- retries -------------------------------------------------------------------------------


def test_an_id_that_reaches_one_role_twice_was_retried_two_roles_are_normal(tmp_path: Path) -> None:
    prefill = SeenWriter(tmp_path, "prefill", 1)
    one, two = SeenWriter(tmp_path, "decode", 2), SeenWriter(tmp_path, "decode", 3)
    reader = SeenReader(tmp_path)
    for writer in (prefill, one):
        writer.add("a-1")
    assert reader.refresh() == []
    two.add("a-1")
    assert reader.refresh() == ["a-1"]
    assert reader.tries("a-1") == 2
    one.add("a-1")
    assert reader.refresh() == []  # told once
    assert reader.tries("a-1") == 3
    assert reader.tries("never") == 0
    for writer in (prefill, one, two):
        writer.close()


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "decode-1-1.ids"
    path.write_bytes(b"x\nx")
    reader = SeenReader(tmp_path)
    assert reader.refresh() == []
    path.write_bytes(b"x\nx\n")
    assert reader.refresh() == ["x"]


def test_odd_ids_stay_one_line(tmp_path: Path) -> None:
    writer = SeenWriter(tmp_path, "decode", 1)
    writer.add("a b\nc" + "é" * 200)
    writer.close()
    reader = SeenReader(tmp_path)
    reader.refresh()
    assert reader.tries("a b\nc" + "é" * 200) == 1


async def test_a_retry_is_a_failure_even_when_the_answer_was_perfect(tmp_path: Path) -> None:
    async def twice(request: web.Request) -> web.StreamResponse:
        for port in (1, 2):
            writer = SeenWriter(tmp_path, "decode", port)
            writer.add(request.headers["X-Request-Id"])
            writer.close()
        return web.Response(body=STREAM)

    async with _answering(twice) as url:
        options = LoadOptions(seen_dir=tmp_path)
        report = await LoadRun(url, [Arrival(0, 5, 3)], options).run()
    assert (report.passed, report.failed_requests, report.retried_requests) == (1, 0, 1)
    assert report.unseen == 0
    assert not report.clean
    assert report.failures[0].kind is FailureKind.RETRIED


async def test_passed_requests_that_no_engine_noted_are_said(tmp_path: Path) -> None:
    async with _answering(_saying(STREAM)) as url:
        options = LoadOptions(seen_dir=tmp_path)
        report = await LoadRun(url, [Arrival(0, 5, 3)], options).run()
    assert report.unseen == 1


# ---- the command line ----------------------------------------------------------------------


def test_the_command_line_makes_every_shape_and_plays_traces(tmp_path: Path) -> None:
    def made(*words: str) -> list[Arrival]:
        return arrivals_of(parser().parse_args(["--url", "http://x", *words]))

    assert made("--rate", "5", "--duration", "10", "--seed", "1")
    assert made("--shape", "ramp", "--rate", "1:9", "--duration", "10")
    assert made("--shape", "humps", "--rate", "1", "--hump", "5:20:4", "--duration", "10")
    assert made("--shape", "diurnal", "--rate", "30", "--duration", "10")
    path = tmp_path / "trace.csv"
    path.write_text(PLAIN)
    assert made("--trace", str(path), "--time-scale", "7", "--max-tokens", "30") == [
        (0.0, 374, 30),
        (0.5, 10, 20),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--shape", "ramp", "--rate", "1"],
        ["--rate", "fast"],
        ["--trace", "nowhere.csv"],
        ["--rate", "0"],
    ],
)
def test_a_load_that_cannot_be_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", "http://127.0.0.1:1", *words]) == 2
    assert capsys.readouterr().err.startswith("load: ")


def test_the_exit_status_says_whether_all_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,input_tokens,output_tokens\n0,1,1\n")
    url = f"http://127.0.0.1:{free_port()}"
    out = tmp_path / "out.json"
    assert run(["--url", url, "--trace", str(path), "--json", str(out)]) == 1
    assert "refused" in capsys.readouterr().out
    assert '"failed_requests": 1' in out.read_text()
