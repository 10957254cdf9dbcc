"""Services come, change and go; each is watched by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.edge.prometheus.client import PrometheusClient
from heteroscale_coordinator.edge.prometheus.live.room import Watchers
from heteroscale_coordinator.edge.prometheus.live.told import WatchCollector
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer
from tests.coordinator.prometheus.live.stand import CHAT, Bench, Paper

MAIN = {"main": WatchedServer(url="http://prometheus:9090")}


class Rounds:
    """Sleeps that end only when the test lets them, all at once."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await self._woken.wait()

    def wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()


@asynccontextmanager
async def watching(bench: Bench, paper: Paper, servers: Any = None) -> Any:
    """Run a room; give it, and what lets everybody look once and the loop fold it."""
    rounds = Rounds()

    def connect(server: WatchedServer) -> PrometheusClient:
        return PrometheusClient(server, {}, httpx.MockTransport(paper.answer))

    known = MAIN if servers is None else servers
    room = Watchers(bench, known, connect=connect, sleep=rounds.sleep)
    task = asyncio.create_task(room.run())

    async def once() -> None:
        bench.time += 10
        for name in paper.pods:
            paper.scrape(name)
        await settled()
        rounds.wake()
        await settled()
        await bench.fold()

    async def settled() -> None:
        for _ in range(300):
            await asyncio.sleep(0)

    try:
        yield room, once
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def two_pods(bench: Bench) -> Paper:
    paper = Paper(bench.now)
    paper.pod("chat-prefill-0")
    paper.pod("chat-decode-0")
    return paper


async def rounds(once: Callable[[], Awaitable[None]], number: int = 3) -> None:
    for _ in range(number):
        await once()


async def test_a_service_is_watched_from_when_it_says_so_until_it_does_not() -> None:
    bench = Bench()
    async with watching(bench, two_pods(bench)) as (room, once):
        await rounds(once)
        assert room.told() == {}
        bench.apply()
        await rounds(once)
        assert {s for _, s in bench.shown().values()} == {"in_service"}
        assert len(bench.shown()) == 2
        family = {m.name: m for m in WatchCollector(room.told, bench.now).collect()}
        up = family["heteroscale_prometheus_up"].samples
        assert [(one.labels, one.value) for one in up] == [({"service": "chat"}, 1.0)]
        used = {s.labels["used"]: s.value for s in family["heteroscale_prometheus_engines"].samples}
        assert used == {"yes": 2.0, "no": 0.0}
        roles = {name: {"template": "t"} for name in ("prefill", "decode")}
        bench.apply({"roles": roles})
        await rounds(once)
        assert {s for _, s in bench.shown().values()} == {"terminated"}
        agent = bench.state.agents["prometheus/chat"]
        assert (agent.connected, agent.silent) == (False, False)


async def test_one_that_changes_where_it_looks_is_watched_anew() -> None:
    bench = Bench()
    bench.apply()
    async with watching(bench, two_pods(bench)) as (room, once):
        await rounds(once)
        before = set(bench.state.instances)
        bench.apply({**CHAT, "signals": {"source": "prometheus", "select": 'pod=~"chat-.*"'}})
        await rounds(once)
        assert room.told()["chat"].select == 'pod=~"chat-.*"'
        assert set(bench.state.instances) == before


async def test_what_is_wrong_with_the_server_is_said() -> None:
    bench = Bench()
    bench.apply()
    other = {**CHAT, "signals": {"source": "prometheus", "server": "west"}}
    bench.apply(other, "other")
    for servers, chat, west in (
        ({}, "start it with --prometheus URL", "no 'west' in the coordinator's"),
        ({**MAIN, "east": MAIN["main"]}, "signals.server is missing", "it has east, main"),
    ):
        async with watching(bench, two_pods(bench), servers) as (room, once):
            await rounds(once)
            assert chat in room.told()["chat"].error
            assert west in room.told()["other"].error


async def test_a_login_that_cannot_be_read_harms_no_other_server() -> None:
    bench = Bench()
    bench.apply({**CHAT, "signals": {"source": "prometheus", "server": "main"}})
    bench.apply({**CHAT, "signals": {"source": "prometheus", "server": "sealed"}}, "other")
    sealed = WatchedServer.model_validate(
        {"url": "http://p:1", "bearerTokenFile": "/nowhere/token"}
    )
    async with watching(bench, two_pods(bench), {**MAIN, "sealed": sealed}) as (room, once):
        await rounds(once)
        assert room.told()["chat"].error == ""
        assert "bearerTokenFile /nowhere/token" in room.told()["other"].error


async def test_what_a_coordinator_before_found_is_let_go_where_nobody_watches_any_more() -> None:
    bench = Bench()
    bench.apply()
    async with watching(bench, two_pods(bench)) as (_, once):
        await rounds(once)
    roles = {name: {"template": "t"} for name in ("prefill", "decode")}
    bench.state.services["chat"] = bench.apply({"roles": roles})
    async with watching(bench, two_pods(bench)) as (_, once):
        await rounds(once)
    assert {s for _, s in bench.shown().values()} == {"terminated"}


def test_freshness_is_as_scrapes_are_unless_it_is_said() -> None:
    assert ServiceSpec.model_validate(CHAT).policy.freshness == 75.0
    said = {**CHAT, "policy": {"freshness": "20s"}}
    assert ServiceSpec.model_validate(said).policy.freshness == 20.0
