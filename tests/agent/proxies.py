"""Real nginx and HAProxy, small engines behind them, and a stream of requests that counts failures."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from heteroscale.words import Role
from heteroscale_agent.hands.gates.port import GateKind, Member, View
from heteroscale_agent.model import Gate

DEADLINE = 30.0

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="needs nginx")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until true; a proxy tells nobody when it is done."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


class Engine:
    """Answers after a moment, and counts what it answers."""

    def __init__(self, path: str = "/") -> None:
        self._path = path
        self.answered = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", self._path, self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        self.answered += 1
        return web.json_response({"port": self.port})


class Traffic:
    """Asks the proxy without pause; who answered, and every failure, is counted."""

    def __init__(self, url: str, body: object = None) -> None:
        self.url = url
        self._body = body
        self.answers: list[tuple[int, str]] = []
        """(when it was asked, who answered), in the order of the answers."""
        self.failures: list[str] = []
        self._asked = 0
        self._open: set[int] = set()

    async def ask(self, client: aiohttp.ClientSession) -> None:
        self._asked += 1
        mine = self._asked
        self._open.add(mine)
        try:
            method = "GET" if self._body is None else "POST"
            async with client.request(method, self.url, json=self._body) as response:
                if response.status == 200:
                    self.answers.append((mine, str((await response.json()).get("port", "?"))))
                else:
                    self.failures.append(f"HTTP {response.status}")
        except aiohttp.ClientError as error:
            self.failures.append(repr(error))
        finally:
            self._open.discard(mine)

    async def more(self, count: int) -> Counter[str]:
        """Wait for so many answers to requests that begin from now on; return who gave them."""
        before, failed = self._asked, len(self.failures)

        def since() -> list[str]:
            return [port for asked, port in self.answers if asked > before]

        async def came() -> bool:
            return len(since()) + len(self.failures) - failed >= count

        await until(came)
        return Counter(since())

    async def settled(self) -> None:
        """Wait until every request that is on its way now was answered."""
        before = self._asked

        async def ended() -> bool:
            return all(asked > before for asked in self._open)

        await until(ended)

    @asynccontextmanager
    async def flowing(self, clients: int = 4) -> AsyncIterator[None]:
        # A connection for each request: a proxy that reloads closes idle ones under its clients.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as client:
            stop = asyncio.Event()

            async def ask_on() -> None:
                while not stop.is_set():
                    await self.ask(client)

            tasks = [asyncio.create_task(ask_on()) for _ in range(clients)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*tasks)


class Proxy:
    """One proxy process of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, *command: str) -> None:
        self._spawn(command)
        await until(self._listens)

    def _spawn(self, command: tuple[str, ...]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    async def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE)


def member_of(engine: Engine, gate: Gate, name: str) -> Member:
    return Member(name, "chat", Role.DECODE, engine.endpoint, None, gate)


async def agreed(gate: GateKind, member: Member, *, wanted_in: bool) -> View:
    """Pass again and again until the proxy was seen to agree."""
    last = View({"never": None})

    async def agrees() -> bool:
        nonlocal last
        last = await gate.reconcile(member, wanted_in=wanted_in)
        return last.all_in if wanted_in else last.all_out

    try:
        await until(agrees)
    except TimeoutError:
        raise AssertionError(f"no agreement: {last}") from None
    return last


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[list[Engine]]:
    async with AsyncExitStack() as stack:
        made = [Engine() for _ in range(count)]
        for engine in made:
            await engine.start()
            stack.push_async_callback(engine.stop)
        yield made


async def come_and_go(gate: GateKind, options: Gate, url: str) -> None:
    """In, in, out, stopped; back, and the other out: no request fails, none goes astray."""
    traffic = Traffic(url)
    async with engines(2) as (one, two):
        first, second = member_of(one, options, "i1"), member_of(two, options, "i2")
        await agreed(gate, first, wanted_in=True)
        async with traffic.flowing():
            await agreed(gate, second, wanted_in=True)
            assert set(await traffic.more(60)) == {str(one.port), str(two.port)}
            await agreed(gate, first, wanted_in=False)
            # What was on its way when the gate closed still arrives.
            await traffic.settled()
            answered = one.answered
            assert set(await traffic.more(60)) == {str(two.port)}
            assert one.answered == answered
            await agreed(gate, first, wanted_in=True)
            assert set(await traffic.more(60)) == {str(one.port), str(two.port)}
            await agreed(gate, second, wanted_in=False)
            await traffic.settled()
            await two.stop()
            assert set(await traffic.more(60)) == {str(one.port)}
        assert traffic.failures == []
