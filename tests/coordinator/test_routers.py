"""Taking the workers of lost nodes out of routers: a small router on loopback, kind and unkind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from heteroscale_coordinator.core.events import RemoveFromRouters
from heteroscale_coordinator.edge import routers
from heteroscale_coordinator.edge.routers import Routers

LOST = "http://10.0.0.9:20000"


class Router:
    """Lists workers and forgets those that are deleted."""

    def __init__(self) -> None:
        self.workers = {
            "w1": LOST,
            "w2": "http://10.0.0.8:20000",
            "w/3": f"{LOST}@1",
            "w4": "http://10.0.0.9:200001",
        }
        self.deleted: list[str] = []
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.url = ""

    async def list(self, _request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            return self.answer()
        rows = [{"id": key, "url": url} for key, url in self.workers.items()]
        return web.json_response({"workers": rows, "total": len(rows)})

    async def delete(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        self.deleted.append(key)
        self.workers.pop(key, None)
        return web.json_response({"status": "accepted"}, status=202)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Router, Routers]]:
    router, client = Router(), Routers()
    app = web.Application()
    app.router.add_get("/workers", router.list)
    app.router.add_delete("/workers/{key}", router.delete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    router.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield router, client
    finally:
        await client.aclose()
        await runner.cleanup()


async def test_every_rank_of_the_lost_endpoint_is_removed_and_nobody_else() -> None:
    async with running() as (router, client):
        client.remove(RemoveFromRouters((f"{router.url}/",), f"{LOST}/"))
        await client.settle()
        assert set(router.workers) == {"w2", "w4"}
        client.remove(RemoveFromRouters((router.url,), LOST))
        await client.settle()
        assert sorted(router.deleted) == ["w/3", "w1"]


async def test_one_dead_router_does_not_keep_others_from_it_and_is_said_once() -> None:
    async with running() as (router, client):
        effect = RemoveFromRouters(("http://127.0.0.1:1", "not a url", router.url), LOST)
        with capture_logs() as lines:
            for _ in range(3):
                client.remove(effect)
                await client.settle()
        assert set(router.workers) == {"w2", "w4"}
        failures = [line["router"] for line in lines if line["event"] == "worker not removed"]
        assert sorted(failures) == ["http://127.0.0.1:1", "not a url"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<html>hello</html>"),
        lambda: web.Response(status=500),
        lambda: web.json_response([1, 2, 3]),
        lambda: web.json_response({"workers": {"a": 1}}),
        lambda: web.Response(body=b"[" * (routers.MAX_ANSWER_BYTES + 1)),
        lambda: web.Response(body=b"[" * 100_000),
        lambda: web.Response(body=b"\xff\xfe"),
    ],
)
async def test_an_answer_that_is_no_list_of_workers_deletes_nothing(
    answer: Callable[[], web.StreamResponse],
) -> None:
    async with running() as (router, client):
        router.answer = answer
        with capture_logs() as lines:
            client.remove(RemoveFromRouters((router.url,), LOST))
            await client.settle()
        assert [line["event"] for line in lines] == ["worker not removed"]
        assert router.deleted == []


async def test_strange_rows_are_passed_over() -> None:
    async with running() as (router, client):
        router.answer = lambda: web.json_response(
            {"workers": [7, {}, {"url": LOST}, {"url": LOST, "id": 5}, {"url": LOST, "id": "w1"}]}
        )
        client.remove(RemoveFromRouters((router.url,), LOST))
        await client.settle()
        assert router.deleted == ["w1"]


async def test_a_router_that_hangs_is_given_up_and_asked_once_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routers, "DEADLINE_S", 0.05)
    asked = 0
    never = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await never.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = Routers()
    with capture_logs() as lines:
        for _ in range(5):
            client.remove(RemoveFromRouters((url,), LOST))
        await client.settle()
    assert asked == 1
    assert [line["event"] for line in lines] == ["worker not removed"]
    never.set()
    await client.aclose()
    server.close()


async def test_what_a_router_confirmed_is_not_asked_again() -> None:
    async with running() as (router, client):
        effect = RemoveFromRouters((router.url,), LOST)
        client.remove(effect)
        await client.settle()
        assert router.deleted == ["w1", "w/3"]
        router.workers["w5"] = LOST  # its agent is alive, cut off from us alone, and owns its gate
        client.remove(effect)
        await client.settle()
        assert router.deleted == ["w1", "w/3"]
