"""What the loop is told: who is there, what they do, and what is unknown when it cannot be known."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from heteroscale.words import InstanceState, Role, ScrapeQuality
from heteroscale_coordinator.core.events import AgentConnected, ReportReceived
from heteroscale_coordinator.core.model import EngineSample, RankFact
from heteroscale_coordinator.edge.prometheus.live.told import in_short, lines
from tests.coordinator.prometheus.live.stand import CHAT, NOW, Bench, Pod, Stand, stand

SERVES, UNKNOWN, GONE = "in_service", "unknown", "terminated"
ALL = {
    "chat-prefill-0": ("prefill", SERVES),
    "chat-decode-0": ("decode", SERVES),
    "chat-decode-1": ("decode", SERVES),
}


def states(one: Stand) -> dict[str, str]:
    return {name: state for name, (_, state) in one.bench.shown().items()}


def samples(one: Stand) -> dict[str, EngineSample]:
    """Return the samples of the last report that has any, by the instances' names."""
    report = next(r for r in reversed(one.bench.reports) if r.engines)
    origins = one.bench.state.instances
    return {origins[s.instance_id].origin.removeprefix("prometheus "): s for s in report.engines}


async def test_engines_become_instances_and_counters_only_grow() -> None:
    one = stand()
    assert await one.look() == 10.0
    assert one.bench.shown() == ALL
    assert samples(one)["chat-decode-0"].generation_tokens == 0, (
        "what was before is not ours to rate"
    )
    one.bench.time += 10
    one.paper.scrape("chat-decode-0", generation_tokens_total=50.0)
    one.paper.scrape("chat-decode-1", generation_tokens_total=-90.0)
    await one.look(after=0.0, scraped=False)
    told = samples(one)
    assert told["chat-decode-0"].generation_tokens == 50.0
    assert told["chat-decode-1"].generation_tokens == 10.0, "restarted: what it shows is new"
    assert set(told) == {"chat-decode-0", "chat-decode-1"}, "nobody else was scraped since"
    sample = told["chat-decode-0"]
    assert (sample.running, sample.waiting, sample.kv_usage) == (2.0, 1.0, 0.5)
    assert sample.transferring is None
    assert sample.ttft is not None
    assert sample.tbt is None
    assert (sample.ttft.sum_seconds, sample.ttft.observations) == (0.0, 0.0)
    assert sample.at == one.bench.time, "ages are told by the server's own clock, which is ahead"


async def test_an_old_sample_is_stale_and_its_engine_unknown() -> None:
    one = stand()
    await one.look()
    one.bench.time += 80
    one.paper.scrape("chat-decode-0")
    one.paper.scrape("chat-prefill-0")
    await one.look(after=0.0, scraped=False)
    assert states(one)["chat-decode-1"] == UNKNOWN
    assert samples(one)["chat-decode-1"].quality is ScrapeQuality.STALE
    track = one.bench.state.tracks[samples(one)["chat-decode-1"].instance_id]
    assert track.quality is ScrapeQuality.STALE
    assert len(track) == 1
    await one.look()
    assert one.bench.shown() == ALL


async def test_an_engine_whose_series_end_is_unknown_and_then_gone() -> None:
    one = stand(goneAfter="30s")
    await one.look()
    del one.paper.pods["chat-decode-1"]
    for _ in range(2):
        await one.look()
        assert states(one)["chat-decode-1"] == UNKNOWN
    await one.look()
    assert states(one)["chat-decode-1"] == GONE
    one.paper.pod("chat-decode-1")
    await one.look()
    again = [i for i in one.bench.state.instances.values() if "decode-1" in i.origin]
    assert sorted(i.state.value for i in again) == [SERVES, GONE], "a new life has an id of its own"


async def test_one_that_is_scraped_in_vain_is_never_gone() -> None:
    one = stand(goneAfter="30s")
    await one.look()
    del one.paper.pods["chat-decode-1"]
    one.paper.up = {"chat-decode-1": 0.0}
    for _ in range(8):
        await one.look()
    assert states(one)["chat-decode-1"] == UNKNOWN


async def test_where_nothing_at_all_is_seen_nobody_is_gone() -> None:
    one = stand(goneAfter="30s")
    await one.look()
    one.paper.pods.clear()
    for _ in range(8):
        await one.look()
    assert set(states(one).values()) == {UNKNOWN}
    assert "no engine's series match" in one.watcher.told.notes[0]


def http(code: int, body: str = "", **headers: str) -> httpx.Response:
    return httpx.Response(code, content=body, headers=headers)


def vector(**more: Any) -> str:
    data = {"resultType": "vector", "result": []}
    return json.dumps({"status": "success", "data": data, **more})


FAILURES = [
    (http(503, "busy"), "HTTP 503"),
    (http(429, "slow down"), "HTTP 429"),
    (http(401), "HTTP 401"),
    (http(200, "<html>"), "no JSON"),
    (http(200, '{"status":"error","error":"query timed out"}'), "query timed out"),
    (http(200, vector(warnings=["No StoreAPIs matched for this query"])), "is not all"),
    (http(200, vector(isPartial=True)), "is not all"),
    (http(200, "x" * 9001), "longer than 9000 bytes"),
    (http(302, location="https://elsewhere"), "sends us on"),
]


@pytest.mark.parametrize(("answer", "why"), FAILURES)
async def test_a_failed_question_takes_nobody_away(answer: httpx.Response, why: str) -> None:
    one = stand(goneAfter="30s", maxBytes=9000)
    await one.look()
    one.paper.say = lambda _: httpx.Response(
        answer.status_code, content=answer.content, headers=answer.headers
    )
    for _ in range(30):
        await one.look()
    assert set(states(one).values()) == {UNKNOWN}
    assert why in one.watcher.told.error
    agent = one.bench.state.agents["prometheus/chat"]
    assert not agent.silent, "it is the server that is silent, not who watches it"
    assert not agent.connected
    assert why in agent.message
    one.paper.say = None
    await one.look()
    assert one.bench.shown() == ALL
    assert agent.connected


async def test_it_is_left_alone_as_long_as_it_asks() -> None:
    one = stand()
    one.paper.say = lambda _: http(503, "busy", **{"Retry-After": "120"})
    assert await one.look() == 120.0
    one.paper.say = lambda _: http(429, "", **{"Retry-After": "100000"})
    assert [await one.look() for _ in range(4)] == [20.0, 40.0, 80.0, 80.0]


async def test_a_hanging_server_is_given_up_at_the_deadline() -> None:
    one = stand(timeout="50ms")

    async def hang() -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    one.paper.say = lambda _: hang()
    await one.look()
    assert "no answer within 0.05 s" in one.watcher.told.error


async def test_an_engine_that_two_scrape_is_said_and_not_counted_double() -> None:
    one = stand()
    first = one.paper.pods["chat-decode-1"]
    twin = Pod(first.scraped_at, labels={**first.labels, "prometheus_replica": "b"})
    one.paper.pods["twin"] = twin
    await one.look()
    assert 'there twice, with prometheus_replica="" and "b"' in one.watcher.told.error


async def test_a_restart_goes_on_with_the_instances_that_were_there() -> None:
    bench = Bench()
    before = stand(bench=bench)
    await before.look()
    ids = set(bench.state.instances)
    after = stand(bench=bench)
    await bench.fold()
    assert set(states(after).values()) == {SERVES}
    await after.look()
    assert set(bench.state.instances) == ids


async def test_roles_that_no_label_tells_are_asked_for() -> None:
    one = stand()
    one.paper.pod("mystery")
    await one.look()
    assert "mystery" not in one.bench.shown()
    assert "of mystery the role is not known" in one.watcher.told.notes[0]
    spec = {**CHAT, "signals": {"source": "prometheus", "roles": {"decode": 'pod="mystery"'}}}
    two = stand(spec)
    two.paper.pod("mystery")
    await two.look()
    assert two.bench.shown() == {"mystery": ("decode", SERVES)}
    assert any("no prefill among them" in note for note in two.watcher.told.notes)


async def test_ordinary_serving_needs_no_role() -> None:
    one = stand({**CHAT, "roles": {"aggregated": {}}})
    await one.look()
    assert {role for role, _ in one.bench.shown().values()} == {"aggregated"}


async def test_rates_of_ones_own_are_added_up() -> None:
    own = {"generation_tokens": "sum by (pod) (rate(vllm:num_requests_waiting{$select}[$window]))"}
    one = stand({**CHAT, "signals": {"source": "prometheus", "queries": own}})
    await one.look()
    await one.look()
    assert samples(one)["chat-decode-0"].generation_tokens == 10.0, "1 per second, for 10 s"
    assert any("[60s]" in query for query in one.paper.asked)


# ---- instances that others tell of ------------------------------------------------------------

LAUNCHED = {
    "signals": {"source": "prometheus"},
    "roles": {
        "prefill": {"template": "p", "max": 8},
        "decode": {"template": "d", "max": 8},
    },
}


def agent(*instances: tuple[str, Role, str, str]) -> AgentConnected:
    """Return the hello of an agent on host n1 with instances: id, role, endpoint, origin."""
    facts = tuple(
        RankFact(key, "chat", role, InstanceState.IN_SERVICE, 1, endpoint=url, origin=origin)
        for key, role, url, origin in instances
    )
    return AgentConnected("n1", 1, "host-1", facts, advertise_host="10.0.0.1")


async def test_instances_of_agents_are_measured_by_address_and_pod_and_by_nobody_else() -> None:
    one = stand(LAUNCHED)
    one.paper.pods["chat-prefill-0"].labels["instance"] = "10.0.0.1:8000"
    one.paper.pods["chat-decode-0"].labels["namespace"] = "llm"
    told = agent(
        ("i-p", Role.PREFILL, "http://127.0.0.1:8000", ""),
        ("i-d", Role.DECODE, "http://127.0.0.1:8001", "pod llm/chat-decode-0"),
    )
    await one.bench.fold(told)
    await one.look()
    assert one.bench.shown() == {}
    assert one.bench.state.tracks.keys() == {"i-p", "i-d"}
    assert "not used: chat-decode-1" in one.watcher.told.notes[0]
    own = EngineSample("i-p", ScrapeQuality.OK, one.bench.time + 1, generation_tokens=1e6)
    await one.bench.fold(ReportReceived("n1", 1, 1, (own,)))
    assert len(one.bench.state.tracks["i-p"]) == 1, "a track has one source"


async def test_what_agents_begin_to_tell_of_is_not_counted_twice() -> None:
    one = stand()
    await one.look()
    await one.bench.fold(agent(("i-d", Role.DECODE, "", "pod llm/chat-decode-0")))
    await one.look()
    assert states(one) == {
        "chat-prefill-0": SERVES,
        "chat-decode-0": GONE,
        "chat-decode-1": SERVES,
    }
    # One that matches nothing may be any of those that would be new.
    one.paper.pod("chat-decode-7")
    await one.bench.fold(
        agent(
            ("i-d", Role.DECODE, "", "pod llm/chat-decode-0"),
            ("i-x", Role.DECODE, "http://127.0.0.1:9", ""),
        )
    )
    await one.look()
    assert "chat-decode-7" not in one.bench.shown()
    assert "1 that agents tell of match no engine here" in one.watcher.told.notes[0]


# ---- what is said ----------------------------------------------------------------------------


async def test_how_it_goes_is_said_in_a_line_and_at_length() -> None:
    one = stand()
    assert in_short(one.watcher.told, NOW) == "prometheus, not answered yet"
    await one.look()
    now = one.bench.time + 5
    assert in_short(one.watcher.told, now) == (
        "prometheus, answered 5 s ago: 3 of 3 engines used, oldest sample 5 s ago"
    )
    told = list(lines(one.watcher.told, now, queries=True))
    assert told[1] == 'address http://prometheus:9090, series {model_name=~"chat|"}'
    assert any("clock is +40 s from ours" in line for line in told)
    assert any(line.startswith("  generation_tokens: sum by (pod) (vllm:") for line in told)
    assert not any("generation_tokens" in line for line in lines(one.watcher.told, now))
    one.paper.say = lambda _: http(503, "busy")
    await one.look()
    assert "FAILS: http://prometheus:9090: HTTP 503" in in_short(one.watcher.told, one.bench.time)
    assert "last answer 10 s ago" in in_short(one.watcher.told, one.bench.time)
