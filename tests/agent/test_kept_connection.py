"""A connection that is kept: when it is let go, and that no answer is taken for another's."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest

from heteroscale_agent.ports import ScrapeTarget
from heteroscale_agent.probes.http import ContentError, FetchError, TextPage
from heteroscale_agent.probes.watch import EngineWatch
from tests.agent.metrics_server import answer

LONG = 20.0
SHORT = 0.2
RUNNING = "vllm:num_requests_running {}\n"

Turn = Callable[["Peer"], Awaitable[None]]
"""What a server does with one request."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Read until the other end closes; for a turn."""
        assert await self.reader.read() == b""

    async def closed(self) -> None:
        """Wait until the connection is gone; for whoever has no turn."""
        async with asyncio.timeout(LONG):
            await self.writer.wait_closed()


class Server:
    """Does with each request, whatever its connection, what its script says next."""

    def __init__(self, *script: Turn) -> None:
        self.script = list(script)
        self.url = ""
        self.peers: list[Peer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                await self.script.pop(0)(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def served(*script: Turn) -> AsyncIterator[Server]:
    server = Server(*script)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/metrics"
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


def says(text: str, extra: str = "") -> Turn:
    return lambda peer: peer.says(answer(text, extra=extra))


def old(text: str) -> Turn:
    data = answer(text).replace(b"HTTP/1.1", b"HTTP/1.0")
    return lambda peer: peer.says(data)


async def closes(peer: Peer) -> None:
    """Close without a word."""
    peer.writer.close()


async def hangs(peer: Peer) -> None:
    await peer.until_closed()
    peer.writer.close()


async def test_a_connection_is_made_once() -> None:
    async with served(says("a"), says("b"), says("c")) as server:
        with closing(TextPage(server.url)) as page:
            assert [await page.get(LONG) for _ in range(3)] == ["a", "b", "c"]
        assert len(server.peers) == 1


@pytest.mark.parametrize("first", [says("a", "Connection: close\r\n"), old("a")])
async def test_a_server_that_keeps_none_is_obeyed(first: Turn) -> None:
    async def leaves_closing_to_us(peer: Peer) -> None:
        await first(peer)
        await peer.until_closed()

    async with served(leaves_closing_to_us, says("b")) as server:
        with closing(TextPage(server.url)) as page:
            assert [await page.get(LONG) for _ in range(2)] == ["a", "b"]
        assert len(server.peers) == 2


async def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    async def says_and_closes(peer: Peer) -> None:
        await peer.says(answer("a"))
        peer.writer.close()

    async with served(says_and_closes, says("b")) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            assert await page.get(LONG) == "b"


async def test_a_connection_that_closes_as_we_ask_is_made_anew_once() -> None:
    async with served(says("a"), closes, says("b"), closes, closes, says("c")) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            assert await page.get(LONG) == "b"
            # The kept one, then a fresh one: no third.
            with pytest.raises(FetchError):
                await page.get(LONG)
            assert len(server.peers) == 3
            assert await page.get(LONG) == "c"


async def test_a_fresh_connection_that_closes_is_not_tried_again() -> None:
    async with served(closes, says("a")) as server:
        with closing(TextPage(server.url)) as page, pytest.raises(FetchError):
            await page.get(LONG)
        assert len(server.peers) == 1


async def test_an_answer_cut_off_is_not_asked_for_again() -> None:
    async def cut(peer: Peer) -> None:
        await peer.says(answer("abcdef")[:-3])
        peer.writer.close()

    async with served(says("a"), cut, says("b")) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            with pytest.raises(FetchError):
                await page.get(LONG)
            assert await page.get(LONG) == "b"
        assert len(server.peers) == 2


@pytest.mark.parametrize("rest", [answer("stale"), b"x", b"\r\n"])
async def test_what_follows_an_answer_is_not_the_next_one(rest: bytes) -> None:
    async def says_too_much(peer: Peer) -> None:
        await peer.says(answer("a") + rest)

    async with served(says_too_much, says("b"), says("c")) as server:
        with closing(TextPage(server.url)) as page:
            assert [await page.get(LONG) for _ in range(3)] == ["a", "b", "c"]
        assert len(server.peers) == 2


async def test_what_comes_unasked_is_not_the_next_answer() -> None:
    async with served(says("a"), says("b")) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            # As a proxy does with a connection that idles.
            await server.peers[0].says(answer("", status="408 Request Timeout"))
            await server.peers[0].closed()
            assert await page.get(LONG) == "b"


async def test_a_late_answer_is_not_the_next_one() -> None:
    late = asyncio.Event()

    async def answers_late(peer: Peer) -> None:
        await late.wait()
        await peer.says(answer("late"))

    async with served(says("a"), answers_late, says("b")) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            with pytest.raises(FetchError, match="no whole answer"):
                await page.get(SHORT)
            late.set()
            assert await page.get(LONG) == "b"
        assert len(server.peers) == 2


async def test_the_second_try_is_within_the_same_deadline() -> None:
    async with served(says("a"), closes, hangs) as server:
        with closing(TextPage(server.url)) as page:
            assert await page.get(LONG) == "a"
            with pytest.raises(FetchError, match=r"no whole answer within 0\.2 s"):
                await page.get(SHORT)
            assert not server.script


async def test_a_second_answer_may_not_be_larger_than_a_first() -> None:
    async with served(says("a"), says("b" * 11), says("c" * 10)) as server:
        with closing(TextPage(server.url, max_bytes=10)) as page:
            assert await page.get(LONG) == "a"
            with pytest.raises(ContentError, match="11 bytes announced"):
                await page.get(LONG)
            assert await page.get(LONG) == "c" * 10


async def pours(peer: Peer) -> None:
    """Answer without an end."""
    await peer.says(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        await peer.says(b"x" * 65_536)


async def test_what_was_refused_is_not_held_until_a_collection() -> None:
    limit = 1 << 20
    async with served(*[pours] * 5) as server:
        gc.disable()
        tracemalloc.start()
        try:
            with closing(TextPage(server.url, max_bytes=limit)) as page:
                for _ in range(5):
                    with pytest.raises(ContentError, match="more than"):
                        await page.get(LONG)
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert held < limit < peak


async def test_a_watch_keeps_its_connection_and_lets_go_of_it() -> None:
    async with served(says(RUNNING.format(1)), says(RUNNING.format(2))) as server:
        watch = EngineWatch(ScrapeTarget("one", server.url, "vllm"), lambda: 0.0, LONG)
        for _ in range(2):
            await watch.start()
        assert watch.state.scrape.running == 2
        (peer,) = server.peers
        watch.cancel()
        await peer.closed()


async def test_a_watch_whose_engine_moved_goes_there() -> None:
    async with served(says(RUNNING.format(1))) as here, served(says(RUNNING.format(2))) as there:
        watch = EngineWatch(ScrapeTarget("one", here.url, "vllm"), lambda: 0.0, LONG)
        await watch.start()
        watch.target = ScrapeTarget("one", there.url, "vllm")
        await watch.start()
        assert watch.state.scrape.running == 2
        await here.peers[0].closed()
        await watch.close()
