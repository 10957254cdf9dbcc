"""The engine behind its HTTP face: answers, queues, memory, aborts, metrics, faults."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from heteroscale_workbench.engine_sim.faults import Faults, MetricsFault
from heteroscale_workbench.engine_sim.job import Stage
from heteroscale_workbench.engine_sim.settings import Flavour, Mode, distance, parse_domain
from tests.workbench.sims import serving, settings, until

FIXTURES = Path(__file__).parent / "fixtures"
NOT_IN_FIXTURE = {  # only with P/D on GPUs, or after the first such event
    "sglang:num_aborted_requests",
    "sglang:num_transfer_failed_reqs",
    "sglang:num_bootstrap_failed_reqs",
    "sglang:kv_transfer_latency_ms",
    "sglang:kv_transfer_speed_gb_s",
}


def _events(text: str) -> list[dict[str, object]]:
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    assert parts[-1] == "[DONE]"
    return [json.loads(part) for part in parts[:-1]]


async def test_a_stream_has_exactly_the_tokens_asked_for_then_usage_then_done() -> None:
    async with serving(settings()) as sim:
        asked = {"prompt": "one two three", "max_tokens": 5}
        events = _events(await sim.stream({**asked, "stream_options": {"include_usage": True}}))
        plain = _events(await sim.stream(asked))
    finishes = [e["choices"][0]["finish_reason"] for e in events[:-1]]  # type: ignore[index]
    assert finishes == [None, None, None, None, "length"]
    assert events[-1]["choices"] == []
    usage = events[-1]["usage"]
    assert usage["prompt_tokens"] == 3  # type: ignore[index]
    assert usage["completion_tokens"] == 5  # type: ignore[index]
    assert len(plain) == 5


@pytest.mark.parametrize("tokens", [1, 2, 40])
async def test_whole_answers_and_chats_have_the_tokens_too(tokens: int) -> None:
    async with serving(settings()) as sim:
        status, body = await sim.post({"prompt": [5, 6, 7, 8], "max_tokens": tokens})
        assert status == 200
        assert body["choices"][0]["text"] == " a" * tokens
        assert body["usage"]["total_tokens"] == 4 + tokens
        chat = {"messages": [{"role": "user", "content": "a b"}], "max_tokens": tokens}
        status, body = await sim.post(chat, "/v1/chat/completions")
        assert body["choices"][0]["message"]["content"] == " a" * tokens
        events = _events(await sim.stream(chat, "/v1/chat/completions"))
        assert len(events) == 1 + tokens  # the first says the role


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "a", "max_tokens": 0}, "at least 1"),
        ({"prompt": "a", "max_tokens": True}, "whole number"),
        ({"prompt": 7}, "one text"),
        ({"prompt": ["a", "b"]}, "one text"),
        ({"prompt": "a", "n": 2}, "only n = 1"),
        ({"prompt": "a", "bootstrap_room": 7}, "belong together"),
        ({"prompt": "a", "max_tokens": 5000}, "exceed the KV capacity"),
    ],
)
async def test_what_makes_no_sense_is_a_400_in_openais_form(body: object, said: str) -> None:
    async with serving(settings()) as sim:
        status, answer = await sim.post(body)  # type: ignore[arg-type]
        assert status == 400
        assert said in answer["error"]["message"]
        assert answer["error"]["type"] == "BadRequestError"
        assert sim.engine.in_flight == 0


async def test_garbage_bodies_are_refused() -> None:
    async with serving(settings()) as sim:
        for data in (b"{", b"[]", b"\xff\xfe", b""):
            async with sim.http.post(f"{sim.url}/v1/completions", data=data) as response:
                assert response.status == 400
                assert "error" in await response.json()


async def test_memory_admits_only_what_fits_and_the_rest_waits() -> None:
    async with serving(settings()) as sim:
        big = {"prompt": "a " * 500, "max_tokens": 100}  # 600 of 1000 tokens
        first = asyncio.create_task(sim.post(big))
        await until(lambda: sim.engine.count(Stage.RUNNING) == 1)
        second = asyncio.create_task(sim.post(big))
        await until(lambda: sim.engine.count(Stage.WAITING) == 1)
        assert sim.engine.count(Stage.RUNNING) == 1
        assert 0.5 <= sim.engine.kv_usage <= 0.6
        for task in (first, second):
            assert (await task)[0] == 200
        assert sim.engine.held == 0
        assert sim.engine.in_flight == 0


async def test_no_more_run_together_than_the_batch_allows() -> None:
    async with serving(settings()) as sim:
        tasks = [asyncio.create_task(sim.post({"prompt": "a", "max_tokens": 60})) for _ in range(6)]
        await until(lambda: sim.engine.count(Stage.RUNNING) == 4)
        assert sim.engine.count(Stage.WAITING) == 2
        assert [status for status, _ in await asyncio.gather(*tasks)] == [200] * 6


async def test_a_client_that_leaves_frees_its_slot_and_counts_as_abort() -> None:
    async with serving(settings()) as sim:
        asked = {"prompt": "a", "max_tokens": 900, "stream": True}
        async with sim.http.post(f"{sim.url}/v1/completions", json=asked) as response:
            await response.content.readany()
            assert sim.engine.in_flight == 1
        await until(lambda: sim.engine.in_flight == 0)
        assert sim.engine.held == 0
        assert sim.engine.stats.finished["abort"] == 1
        assert "sglang:num_aborted_requests_total" in await sim.metrics()


async def test_cutting_fails_what_runs_without_finishing_its_stream() -> None:
    async with serving(settings()) as sim:
        asked = {"prompt": "a", "max_tokens": 900, "stream": True}
        async with sim.http.post(f"{sim.url}/v1/completions", json=asked) as response:
            await response.content.readany()
            sim.engine.cut()
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_a_repeated_request_id_is_seen() -> None:
    async with serving(settings()) as sim:
        for name in ("x", "y", "x"):
            headers = {"X-Request-Id": name}
            body = {"prompt": "a", "max_tokens": 1}
            async with sim.http.post(
                f"{sim.url}/v1/completions", json=body, headers=headers
            ) as reply:
                assert reply.status == 200
        await sim.post({"prompt": "a", "max_tokens": 1, "rid": "y"})
        async with sim.http.get(f"{sim.url}/_seen") as reply:
            seen = await reply.json()
    assert seen == {"role": "aggregated", "requests": 4, "duplicates": {"x": 2, "y": 2}}


# ---- what routers ask ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
async def test_routers_find_what_they_ask_for(mode: Mode) -> None:
    async with serving(settings(mode, model="m")) as sim:
        async with sim.http.get(f"{sim.url}/server_info") as reply:
            info = await reply.json()
        assert info["served_model_name"] == "m"
        expected = "null" if mode is Mode.AGGREGATED else mode.value
        assert info["disaggregation_mode"] == expected
        async with sim.http.get(f"{sim.url}/v1/models") as reply:
            assert (await reply.json())["data"][0]["id"] == "m"
        async with sim.http.get(f"{sim.url}/get_model_info") as reply:
            assert (await reply.json())["is_generation"] is True


# ---- metrics -------------------------------------------------------------------------------


def _known(name: str) -> dict[str, tuple[str, str, str]]:
    rows = (FIXTURES / name).read_text().splitlines()
    parts = [row.split(" | ") for row in rows if not row.startswith("#")]
    return {name: (kind, labels, bounds) for name, kind, labels, bounds in parts}


def _described(family: Metric) -> tuple[str, str, str]:
    labels = {label for sample in family.samples for label in sample.labels if label != "le"}
    bounds = {float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")}
    return (
        family.type,
        ",".join(sorted(labels)),
        " ".join(f"{bound:g}" for bound in sorted(bounds)) or "-",
    )


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("flavour", "fixture"),
    [
        (Flavour.VLLM, "vllm-0.32-families.txt"),
        (Flavour.SGLANG, "sglang-0.5.23-families.txt"),
    ],
)
async def test_metrics_have_the_real_names_types_labels_and_buckets(
    mode: Mode, flavour: Flavour, fixture: str
) -> None:
    known = _known(fixture)
    async with serving(settings(mode, flavour=flavour)) as sim:
        families = list(text_string_to_metric_families(await sim.metrics()))
    ours = {f.name: _described(f) for f in families if f.name.startswith(f"{flavour.value}:")}
    assert len(ours) > 15
    real = {name: known[name] for name in ours if name not in NOT_IN_FIXTURE}
    assert {name: ours[name] for name in real} == real


def _samples(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    found: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name + "".join(
                f" {v}" for k, v in sample.labels.items() if k in {"source", "finished_reason"}
            )
            if not sample.name.endswith("_bucket"):
                found[key] = found.get(key, 0.0) + sample.value
    return found


async def test_vllms_counters_count_every_token_and_its_source() -> None:
    how = settings(flavour=Flavour.VLLM, cache_hit=0.25)
    async with serving(how) as sim:
        await sim.post({"prompt": "a " * 100, "max_tokens": 7})
        await sim.stream({"prompt": "a " * 20, "max_tokens": 3})
        values = _samples(await sim.metrics())
    assert values["vllm:generation_tokens_total"] == 10
    assert values["vllm:prompt_tokens_total"] == 120
    assert values["vllm:prompt_tokens_by_source_total local_compute"] == 90
    assert values["vllm:prompt_tokens_by_source_total local_cache_hit"] == 30
    assert values["vllm:request_success_total length"] == 2
    assert values["vllm:time_to_first_token_seconds_count"] == 2
    assert values["vllm:inter_token_latency_seconds_count"] == 8
    assert values["vllm:kv_cache_usage_perc"] == 0
    assert values["vllm:num_requests_running"] == 0


async def test_sglangs_counters_agree_with_what_was_served() -> None:
    async with serving(settings()) as sim:
        await sim.stream({"prompt": "a " * 20, "max_tokens": 4})
        values = _samples(await sim.metrics())
    assert values["sglang:generation_tokens_total"] == 4
    assert values["sglang:prompt_tokens_total"] == 20
    assert values["sglang:num_requests_total"] == 1
    assert values["sglang:inter_token_latency_seconds_count"] == 3


# ---- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [MetricsFault.NAN, MetricsFault.NEGATIVE, MetricsFault.ABSURD])
async def test_garbled_metrics_keep_their_names_but_not_their_values(fault: MetricsFault) -> None:
    async with serving(settings(), Faults(metrics=fault)) as sim:
        families = list(text_string_to_metric_families(await sim.metrics()))
    values = {str(s.value) for family in families for s in family.samples}
    assert values == {{"nan": "nan", "negative": "-7.0", "absurd": "1e+300"}[fault.value]}


async def test_faults_are_switched_at_run_time_only_where_allowed() -> None:
    async with serving(settings()) as sim:
        assert (await sim.post({"metrics": "html"}, "/_fault"))[0] == 404
    async with serving(settings(allow_faults=True)) as sim:
        assert (await sim.post({"metrics": "html"}, "/_fault"))[0] == 200
        assert "<html>" in await sim.metrics()
        assert (await sim.post({"metrics": "nonsense"}, "/_fault"))[0] == 400
        assert (await sim.post({"surprise": 1}, "/_fault"))[0] == 400
        await sim.post({"metrics": None, "unhealthy": True}, "/_fault")
        assert "sglang:num_running_reqs" in await sim.metrics()
        async with sim.http.get(f"{sim.url}/health") as reply:
            assert reply.status == 503


async def test_a_hanging_metrics_endpoint_leaves_the_rest_alive() -> None:
    async with serving(settings(), Faults(metrics=MetricsFault.HANG)) as sim:
        hanging = asyncio.create_task(sim.metrics())
        assert (await sim.post({"prompt": "a", "max_tokens": 2}))[0] == 200
        assert not hanging.done()
        hanging.cancel()


async def test_huge_metrics_are_more_than_anyone_should_read() -> None:
    async with (
        serving(settings(), Faults(metrics=MetricsFault.HUGE)) as sim,
        sim.http.get(f"{sim.url}/metrics") as reply,
    ):
        got = 0
        async for block in reply.content.iter_any():
            got += len(block)
            if got > 8_000_000:
                break
        assert got > 8_000_000


# ---- places --------------------------------------------------------------------------------


def test_distance_is_the_nearest_level_both_share() -> None:
    here = parse_domain("s0=n1,s1=a,s2=x")
    assert distance(here, parse_domain("s0=n1,s1=a,s2=x")) == "s0"
    assert distance(here, parse_domain("s0=n2,s1=a,s2=x")) == "s1"
    assert distance(here, parse_domain("s1=b,s2=x")) == "s2"
    assert distance(here, {}) == "cluster"
    assert distance({}, {}) == "cluster"  # unknown places are not the same place
    with pytest.raises(ValueError, match="level=name"):
        parse_domain("s1")
