"""One GET against servers that hang, drip, flood, redirect and answer something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from heteroscale_agent.probes.http import ContentError, FetchError, get_text
from tests.agent.metrics_server import MetricsServer, answer, hangs, metrics_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
SHORT = 0.2
LONG = 20.0


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    async with metrics_server() as running:
        yield running


async def test_a_plain_answer(server: MetricsServer) -> None:
    server.says("a 1\n")
    assert await get_text(server.url, deadline=LONG) == "a 1\n"
    assert await get_text(server.url, deadline=LONG) == "a 1\n"


async def test_an_answer_in_chunks(server: MetricsServer) -> None:
    server.reply = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n"
    assert await get_text(server.url, deadline=LONG) == "a 1\n"


async def test_a_server_that_hangs(server: MetricsServer) -> None:
    server.reply = hangs
    with pytest.raises(FetchError, match="no whole answer"):
        await get_text(server.url, deadline=SHORT)


async def test_a_server_that_drips(server: MetricsServer) -> None:
    dripped = 0

    async def drip(writer: asyncio.StreamWriter) -> None:
        nonlocal dripped
        writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
        pause = asyncio.Event()
        while True:
            writer.write(b"a")
            await writer.drain()
            dripped += 1
            # A byte whenever the last one has surely been read: each resets a naive read timeout.
            try:
                async with asyncio.timeout(SHORT / 10):
                    await pause.wait()
            except TimeoutError:
                continue

    server.reply = drip
    with pytest.raises(FetchError, match="no whole answer"):
        await get_text(server.url, deadline=SHORT)
    assert dripped >= 1


async def test_a_hundred_megabytes_announced(server: MetricsServer) -> None:
    server.reply = HEAD + b"Content-Length: 104857600\r\n\r\n"
    with pytest.raises(ContentError, match="104857600 bytes announced"):
        await get_text(server.url, deadline=LONG)


async def test_a_hundred_megabytes_unannounced(server: MetricsServer) -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        block = b"# filler\n" * 8192
        while sent < 100 * 1024 * 1024:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    server.reply = flood
    with pytest.raises(ContentError, match="more than 1048576 bytes"):
        await get_text(server.url, deadline=LONG, max_bytes=1 << 20)
    assert sent < 50 * 1024 * 1024


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answer("<html>", content_type="text/html"), "text/html"),
        (answer("gone", status="503 Service Unavailable"), "503"),
        (answer("", status="302 Found", extra="Location: http://127.0.0.1:1/\r\n"), "302"),
        (answer(b"\x1f\x8b", extra="Content-Encoding: gzip\r\n"), "compressed"),
        (answer(b"\xff\xfe"), "UTF-8"),
    ],
)
async def test_another_answer_than_asked_for(
    server: MetricsServer, reply: bytes, message: str
) -> None:
    server.reply = reply
    with pytest.raises(ContentError, match=message):
        await get_text(server.url, deadline=LONG)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        b"",
    ],
)
async def test_no_http_at_all(server: MetricsServer, reply: bytes) -> None:
    async def say_and_close(writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    server.reply = say_and_close
    with pytest.raises(FetchError):
        await get_text(server.url, deadline=LONG)


async def test_an_answer_cut_off(server: MetricsServer) -> None:
    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 100\r\n\r\nvllm:num_requests_running 1")
        await writer.drain()
        writer.close()

    server.reply = cut
    with pytest.raises(FetchError):
        await get_text(server.url, deadline=LONG)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "not a url",
        "http://",
        "ftp://127.0.0.1/",
        "http://[::1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:1/\u00e4 b",
        f"http://{'x' * 300}.invalid/",
    ],
)
async def test_nobody_there(url: str) -> None:
    with pytest.raises(FetchError):
        await get_text(url, deadline=LONG)


async def test_proxies_of_the_environment_are_not_used(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.says("a 1\n")
    assert await get_text(server.url, deadline=LONG) == "a 1\n"
