"""Routers: what their mapping files make of real and documented texts, and how they are watched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from heteroscale.words import ScrapeQuality
from heteroscale_agent.config import AgentSpec, Router
from heteroscale_agent.experimental import notes
from heteroscale_agent.model import LatencyReading, Report, RouterScrape
from heteroscale_agent.probes.engines.text import MetricsTextError
from heteroscale_agent.probes.routers import ROUTERS
from heteroscale_agent.probes.routers.base import read
from heteroscale_agent.probes.watch import RouterWatch
from heteroscale_agent.sample import RouterSampler, merge
from heteroscale_agent.wire import report as on_the_wire
from tests.agent.eyes.rig import HandClock, opened
from tests.agent.metrics_server import MetricsServer, answer, hangs, metrics_server

FIXTURES = Path(__file__).parent / "fixtures"


def scrape(kind: str, text: str, model_name: str = "") -> RouterScrape:
    return read(ROUTERS[kind], text, model_name)


def fixture(name: str) -> str:
    return (FIXTURES / f"sglang-router-0.3.2-{name}.txt").read_text(encoding="utf-8")


def router(url: str = "http://127.0.0.1:1", **fields: str) -> Router:
    base = {"name": "front", "service": "chat", "url": url, "kind": "dynamo"}
    return Router.model_validate({**base, **fields})


def test_the_real_sglang_router_counts_requests_and_knows_no_ttft_over_http() -> None:
    seen = scrape("sglang-router", fixture("loaded"))
    assert seen == RouterScrape(requests_finished=47, requests_failed=0, requests_rejected=0)


def test_the_real_sglang_router_tells_refusals_and_failures_apart() -> None:
    seen = scrape("sglang-router", fixture("refusing"))
    # 53 timed out in its queue; 8 found no worker (503); 33 died with the decode engine (502).
    assert (seen.requests_rejected, seen.requests_failed) == (53 + 8, 33)


def test_the_real_sglang_router_that_served_nothing_yet_is_heard() -> None:
    # It has answered a health probe, so it would show a failure.
    seen = scrape("sglang-router", fixture("idle"))
    assert seen == RouterScrape(requests_failed=0, requests_rejected=0)
    unasked = "\n".join(x for x in fixture("idle").splitlines() if "smg_http" not in x)
    assert scrape("sglang-router", unasked) == RouterScrape()


def test_its_readiness_page_refuses_nobody() -> None:
    text = 'smg_http_responses_total{status_code="503",error_code=""} 40\n'
    assert scrape("sglang-router", text).requests_rejected == 0


def test_the_sglang_router_with_grpc_workers_knows_ttft() -> None:
    seen = scrape(
        "sglang-router",
        'smg_router_ttft_seconds_sum{model="a"} 3\nsmg_router_ttft_seconds_count{model="a"} 6\n'
        'smg_router_ttft_seconds_sum{model="b"} 9\nsmg_router_ttft_seconds_count{model="b"} 1\n',
        "a",
    )
    assert seen.time_to_first_token == LatencyReading(3, 6)


DYNAMO = """
dynamo_frontend_requests_total{model="m",endpoint="chat",status="success",error_type=""} 100
dynamo_frontend_requests_total{model="m",endpoint="chat",status="error",error_type="internal"} 3
dynamo_frontend_requests_total{model="m",endpoint="chat",status="error",error_type="overload"} 4
dynamo_frontend_requests_total{model="m",endpoint="chat",status="error",error_type="cancelled"} 9
dynamo_frontend_inflight_requests{model="m"} 7
dynamo_frontend_queued_requests{model="m"} 2
dynamo_frontend_time_to_first_token_seconds_bucket{model="m",le="0.5"} 60
dynamo_frontend_time_to_first_token_seconds_bucket{model="m",le="+Inf"} 100
dynamo_frontend_time_to_first_token_seconds_sum{model="m"} 45
dynamo_frontend_time_to_first_token_seconds_count{model="m"} 100
dynamo_frontend_inter_token_latency_seconds_sum{model="m"} 20
dynamo_frontend_inter_token_latency_seconds_count{model="m"} 1000
"""


def test_dynamo_by_its_documented_names() -> None:
    assert scrape("dynamo", DYNAMO, "m") == RouterScrape(
        LatencyReading(45, 100, (0.5,), (60, 40)), LatencyReading(20, 1000), 100, 3, 4, 7, 2
    )


@pytest.mark.parametrize(
    "prefix", ["llm_d_router_epp", "llm_d_epp", "inference_objective", "inference_model"]
)
def test_llm_d_by_its_documented_names_new_and_old(prefix: str) -> None:
    labels = 'model_name="m",target_model_name="t"'
    seen = scrape(
        "llm-d",
        f"{prefix}_request_total{{{labels}}} 50\n"
        f"{prefix}_request_duration_seconds_count{{{labels}}} 40\n"
        f'{prefix}_request_error_total{{{labels},error_code="ResourceExhausted"}} 5\n'
        f'{prefix}_request_error_total{{{labels},error_code="Internal"}} 2\n'
        f'{prefix}_request_error_total{{{labels},error_code="BadRequest"}} 3\n'
        f"{prefix}_request_ttft_seconds_sum{{{labels}}} 8\n"
        f"{prefix}_request_ttft_seconds_count{{{labels}}} 40\n"
        f'{prefix}_running_requests{{model_name="m"}} 6\n',
    )
    assert (seen.requests_finished, seen.requests_failed, seen.requests_rejected) == (40, 2, 5)
    assert (seen.time_to_first_token, seen.running) == (LatencyReading(8, 40), 6)


def test_llm_d_that_shows_old_names_beside_the_new_is_read_once() -> None:
    text = (
        'llm_d_router_epp_running_requests{model_name="m"} 6\n'
        'inference_objective_running_requests{model_name="m"} 6\n'
    )
    assert scrape("llm-d", text).running == 6


def test_production_stack_by_its_documented_names() -> None:
    seen = scrape(
        "production-stack",
        'vllm:request_latency_seconds_count{server="a",model="m",status="success"} 30\n'
        'vllm:request_latency_seconds_count{server="a",model="m",status="error"} 2\n'
        'vllm:num_requests_running{server="a"} 3\nvllm:num_requests_running{server="b"} 4\n'
        'vllm:avg_itl{server="a"} 0.02\n',
    )
    assert seen == RouterScrape(requests_finished=30, requests_failed=2, running=7)


def test_an_engine_is_no_router() -> None:
    text = (FIXTURES / "sglang-0.5.23-loaded.txt").read_text()
    for kind in ROUTERS:
        with pytest.raises(MetricsTextError):
            scrape(kind, text)


@pytest.mark.parametrize("kind", sorted(ROUTERS))
def test_a_kind_is_experimental_until_a_release_was_recorded(kind: str) -> None:
    assert ROUTERS[kind].experimental is not any(FIXTURES.glob(f"{kind}-*.txt"))


# ---- the configuration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://10.0.0.9:29000", "http://10.0.0.9:29000"),
        ("http://router.example:80/", "http://router.example:80"),
        ("http://127.0.0.1:29000", "http://10.0.0.7:29000"),
        ("http://localhost:29000", "http://10.0.0.7:29000"),
        ("http://[::1]:29000", "http://10.0.0.7:29000"),
    ],
)
def test_a_router_on_loopback_is_named_by_its_host(url: str, named: str) -> None:
    assert router(url).seen_from_afar("10.0.0.7") == named
    assert router("http://127.0.0.1:5").seen_from_afar("fd00::7") == "http://[fd00::7]:5"


@pytest.mark.parametrize("url", ["10.0.0.9:29000", "http://a:1/metrics", "http://", "https://a:1"])
def test_a_url_that_cannot_be_meant_says_what_to_write(url: str) -> None:
    with pytest.raises(ValidationError, match="write it http://host:port"):
        router(url)


def test_one_router_is_not_listed_twice() -> None:
    front, same_name, same_place = router(), router("http://b:2"), router(name="other")
    for pair, why in (([front, same_name], "called 'front'"), ([front, same_place], "twice")):
        with pytest.raises(ValidationError, match=why):
            AgentSpec.model_validate(
                {"coordinator": "a:1", "routers": [one.model_dump() for one in pair]}
            )


def test_what_is_experimental_is_said() -> None:
    said = notes(AgentSpec(coordinator="a:1", routers=(router(),)))
    assert len(said) == 1
    assert said[0].startswith("dynamo (router front) is experimental: its metric names are taken")
    assert not notes(AgentSpec(coordinator="a:1", routers=(router(kind="sglang-router"),)))


# ---- watching ----------------------------------------------------------------------------------


async def test_the_eyes_report_a_router(tmp_path: Path) -> None:
    clock = HandClock()
    async with metrics_server() as server:
        watched = router(server.url.removesuffix("/metrics"))
        async with opened(clock, tmp_path, routers=(watched,), advertise_host="10.1.1.1") as eyes:
            server.says(DYNAMO)
            await eyes.sample()
            clock.now += 1
            server.says(DYNAMO.replace('overload"} 4', 'overload"} 9').replace(" 45", " 46"))
            (seen,) = (await eyes.sample()).routers
            assert [len(report.routers) for report in eyes.history()] == [1, 1]
    assert (seen.name, seen.service, seen.quality) == ("front", "chat", ScrapeQuality.OK)
    assert seen.url.startswith("http://10.1.1.1:")
    assert (seen.requests_rejected, seen.requests_failed, seen.running) == (5, 0, 7)
    assert seen.time_to_first_token is not None
    assert seen.time_to_first_token.sum_seconds == 1


@asynccontextmanager
async def watched(server: MetricsServer, clock: HandClock) -> AsyncIterator[RouterWatch]:
    """Watch a router that has answered once."""
    server.says(DYNAMO)
    watch = RouterWatch(router(server.url.removesuffix("/metrics")), "10.1.1.1", clock, 20.0)
    await watch.start()
    assert watch.report(clock.now, clock.now).quality is ScrapeQuality.OK
    try:
        yield watch
    finally:
        await watch.close()


@pytest.mark.parametrize(
    "reply",
    [answer("<html>", content_type="text/html"), answer("x 1\n"), answer("", status="500 no")],
)
async def test_an_answer_that_is_no_metrics_leaves_nothing_known(reply: bytes) -> None:
    clock = HandClock()
    async with metrics_server() as server, watched(server, clock) as watch:
        server.reply = reply
        await watch.start()
        seen = watch.report(clock.now, clock.now)
    assert (seen.quality, seen.running) == (ScrapeQuality.MISSING, None)


async def test_a_router_that_hangs_is_stale() -> None:
    clock = HandClock()
    async with metrics_server() as server, watched(server, clock) as watch:
        server.reply = hangs
        watch.start()
        clock.now += 30
        seen = watch.report(clock.now, clock.now - 5)
    assert (seen.quality, seen.age, seen.running) == (ScrapeQuality.STALE, 30.0, 7)


async def test_a_picker_that_wants_a_token_says_so() -> None:
    clock = HandClock()
    async with metrics_server() as server:
        server.reply = answer("", status="401 Unauthorized")
        at = router(server.url.removesuffix("/metrics"), kind="llm-d")
        watch = RouterWatch(at, "h", clock, 20.0)
        await watch.start()
        await watch.close()
    assert watch.message == (
        "HTTP status 401: the picker's metrics want a token; start it with --metrics-endpoint-auth=false"
    )


def test_merged_reports_keep_a_routers_observations() -> None:
    sampler = RouterSampler()
    reports = []
    for at, count in enumerate((0, 2, 5)):
        reading = LatencyReading(0.1 * count, count, (0.05,), (float(count), 0.0))
        sampler.fold(RouterScrape(time_to_first_token=reading), float(at))
        told = sampler.report("front", "chat", "http://a:1", ScrapeQuality.OK, 0.0)
        reports.append(Report(float(at), 1.0, routers=(told,)))
    (merged,) = merge(reports[1], reports[2]).routers
    assert merged.time_to_first_token is not None
    assert sum(merged.time_to_first_token.bucket_deltas) == 5
    message = on_the_wire(merge(reports[1], reports[2]), 2.0)
    assert message.routers[0].time_to_first_token.count == 5
