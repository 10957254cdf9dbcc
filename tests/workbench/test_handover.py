"""The handover of KV from prefill to decode, over real connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from heteroscale_workbench.engine_sim.job import Bootstrap, EngineError, Stage
from heteroscale_workbench.engine_sim.kv import Fetcher
from heteroscale_workbench.engine_sim.settings import Flavour, Mode
from tests.workbench.sims import Serving, serving, settings, until

ROOM = 4_611_686_018_427_387_905


def _asked(prefill_port: int, tokens: int, words: int = 50, room: int = ROOM) -> dict[str, Any]:
    return {
        "prompt": "a " * words,
        "max_tokens": tokens,
        "bootstrap_host": "127.0.0.1",
        "bootstrap_port": prefill_port,
        "bootstrap_room": room,
    }


def _bootstrap(prefill: Serving) -> Bootstrap:
    return Bootstrap("127.0.0.1", prefill.bootstrap_port, ROOM)


async def test_both_halves_together_serve_one_request() -> None:
    flavour = Flavour.VLLM
    async with (
        serving(settings(Mode.PREFILL, flavour=flavour)) as prefill,
        serving(settings(Mode.DECODE, flavour=flavour)) as decode,
    ):
        body = _asked(prefill.bootstrap_port, 6)
        (p_status, p_body), (d_status, d_body) = await asyncio.gather(
            prefill.post(body), decode.post(body)
        )
        assert (p_status, d_status) == (200, 200)
        assert p_body["usage"]["completion_tokens"] == 1
        assert d_body["usage"]["completion_tokens"] == 6
        for sim in (prefill, decode):
            assert sim.engine.held == 0
            assert sim.engine.in_flight == 0
        assert prefill.engine.stats.computed == 50
        assert decode.engine.stats.external == 50
        assert decode.engine.stats.transfer_bytes.total == 50 * 1000


async def test_a_prefill_waits_for_its_decode_then_holds_the_kv_until_it_is_fetched() -> None:
    async with serving(settings(Mode.PREFILL)) as prefill:
        asked = asyncio.create_task(prefill.post(_asked(prefill.bootstrap_port, 6)))
        await until(lambda: prefill.engine.count(Stage.BOOTSTRAP) == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", prefill.bootstrap_port)
        writer.write(json.dumps({"room": ROOM}).encode() + b"\n")
        offer = json.loads(await reader.readline())
        assert offer["tokens"] == 50
        assert prefill.engine.count(Stage.INFLIGHT) == 1
        assert prefill.engine.kv_usage == pytest.approx(51 / 1000)
        assert not asked.done()
        writer.write(b"done\n")
        assert (await asked)[0] == 200
        assert prefill.engine.held == 0
        writer.close()


async def test_a_decode_that_dies_while_fetching_fails_the_prefill() -> None:
    async with serving(settings(Mode.PREFILL)) as prefill:
        asked = asyncio.create_task(prefill.post(_asked(prefill.bootstrap_port, 6)))
        reader, writer = await asyncio.open_connection("127.0.0.1", prefill.bootstrap_port)
        writer.write(json.dumps({"room": ROOM}).encode() + b"\n")
        await reader.readline()
        writer.transport.abort()
        status, body = await asked
        assert status == 500
        assert "went away" in body["error"]["message"]
        assert prefill.engine.held == 0


async def test_a_prefill_that_cannot_be_reached_fails_the_decode() -> None:
    async with serving(settings(Mode.DECODE)) as decode:
        status, body = await decode.post(_asked(1, 6))  # nothing listens on port 1
        assert status == 500
        assert "no prefill at 127.0.0.1:1" in body["error"]["message"]
        assert decode.engine.held == 0
        assert decode.engine.stats.transfers_failed == 1


async def test_a_prefill_that_dies_fails_the_decode() -> None:
    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    server = await asyncio.start_server(dying, "127.0.0.1", 0)
    async with server, serving(settings(Mode.DECODE)) as decode:
        port = server.sockets[0].getsockname()[1]
        status, body = await decode.post(_asked(port, 6))
        assert status == 500
        assert "KV transfer failed" in body["error"]["message"]


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[1]\n", b'{"tokens": "many"}\n', b"\xff\n", b"x" * 40_000 + b"\n"]
)
async def test_a_prefill_that_talks_nonsense_fails_the_decode(line: bytes) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(line)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(EngineError, match="KV transfer failed"):
            await Fetcher(settings(Mode.DECODE)).fetch(Bootstrap("127.0.0.1", port, 1))


async def test_nonsense_at_the_bootstrap_port_harms_nobody() -> None:
    async with serving(settings(Mode.PREFILL)) as prefill:
        for line in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"y" * 40_000, b"\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", prefill.bootstrap_port)
            writer.write(line)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert prefill.engine.in_flight == 0


async def test_a_prompt_nobody_comes_for_expires() -> None:
    async with serving(settings(Mode.PREFILL, kv_lease=0.05)) as prefill:
        status, body = await prefill.post(_asked(prefill.bootstrap_port, 6))
        assert status == 504
        assert "no decode came" in body["error"]["message"]
        assert prefill.engine.stats.kv_expired == 1


async def test_a_room_whose_prefill_has_failed_says_so_to_a_late_decode() -> None:
    async with serving(settings(Mode.PREFILL)) as prefill:
        asked = asyncio.create_task(prefill.post(_asked(prefill.bootstrap_port, 6)))
        await until(lambda: prefill.engine.count(Stage.BOOTSTRAP) == 1)
        asked.cancel()
        await until(lambda: prefill.engine.in_flight == 0)
        with pytest.raises(EngineError, match="aborted by the client"):
            await Fetcher(settings(Mode.DECODE)).fetch(_bootstrap(prefill))


async def test_one_room_is_for_one_decode() -> None:
    async with serving(settings(Mode.PREFILL)) as prefill:
        first = asyncio.create_task(
            Fetcher(settings(Mode.DECODE, kv_lease=20.0)).fetch(_bootstrap(prefill))
        )
        await until(lambda: ROOM in prefill.engine.rooms._rooms)
        with pytest.raises(EngineError, match="has its decode already"):
            await Fetcher(settings(Mode.DECODE)).fetch(_bootstrap(prefill))
        status, _ = await prefill.post(_asked(prefill.bootstrap_port, 6))
        assert status == 200
        assert (await first).tokens == 50


async def test_a_decode_without_room_for_the_kv_leaves_it_with_the_prefill() -> None:
    async with (
        serving(settings(Mode.PREFILL)) as prefill,
        serving(settings(Mode.DECODE)) as decode,
    ):
        long = _asked(prefill.bootstrap_port, 400, words=500)
        first = asyncio.gather(prefill.post(long), decode.post(long))
        await until(lambda: decode.engine.count(Stage.RUNNING) == 1)
        other = _asked(prefill.bootstrap_port, 400, words=500, room=2)
        second = asyncio.gather(prefill.post(other), decode.post(other))
        await until(lambda: decode.engine.count(Stage.PREALLOC) == 1)
        await until(lambda: prefill.engine.count(Stage.BOOTSTRAP) == 1)
        for pair in (first, second):
            pair.cancel()
        await until(lambda: decode.engine.in_flight + prefill.engine.in_flight == 0)
        assert decode.engine.held == prefill.engine.held == 0


async def test_a_decode_refuses_a_request_without_a_room() -> None:
    async with serving(settings(Mode.DECODE)) as decode:
        status, body = await decode.post({"prompt": "a"})
        assert status == 400
        assert "bootstrap" in body["error"]["message"]
