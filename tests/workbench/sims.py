"""Engines for tests: in this process behind a real loopback server, or as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from heteroscale_simulator.profiles import EngineProfile, parse_profile
from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.exposition import Exposition
from heteroscale_workbench.engine_sim.faults import Faults
from heteroscale_workbench.engine_sim.kv import LINE_LIMIT
from heteroscale_workbench.engine_sim.server import EngineServer
from heteroscale_workbench.engine_sim.settings import Flavour, Mode, Settings
from heteroscale_workbench.router import free_port

PROFILE = """
apiVersion: heteroscale/v1
kind: EngineProfile
metadata: {name: test}
spec:
  kvBytesPerToken: 1000
  transfer:
    s0: {gigabytesPerSecond: 100}
    s1: {gigabytesPerSecond: 10}
    s2: {gigabytesPerSecond: 5}
    cluster: {gigabytesPerSecond: 1}
  gpus:
    T:
      kvCapacityTokens: 1000
      maxBatch: 4
      maxPrefillTokens: 300
      prefill: {lengths: [1, 1000], ms: [1, 20]}
      decode: {batches: [1, 4], contexts: [1, 1000], stepMs: [[5, 6], [7, 8]]}
"""
ROOMY = (
    PROFILE.replace("kvCapacityTokens: 1000", "kvCapacityTokens: 4000")
    .replace("maxBatch: 4", "maxBatch: 16")
    .replace("[[5, 6], [7, 8]]", "[[10, 12], [14, 16]]")
)


def profile(text: str = PROFILE) -> EngineProfile:
    """Return a small, fast profile."""
    return parse_profile(text, "test.yaml")


def settings(mode: Mode = Mode.AGGREGATED, **changes: Any) -> Settings:
    """Return settings of an engine with the small profile."""
    base: dict[str, Any] = {"flavour": Flavour.SGLANG, "profile": profile(), "gpu": "T"}
    return Settings(mode=mode, **{**base, **changes})


@dataclass
class Serving:
    """An engine served from this process."""

    engine: Engine
    url: str
    bootstrap_port: int
    faults: Faults
    http: aiohttp.ClientSession

    async def post(self, body: Mapping[str, Any], path: str = "/v1/completions") -> tuple[int, Any]:
        async with self.http.post(self.url + path, json=dict(body)) as response:
            return response.status, await response.json()

    async def stream(self, body: Mapping[str, Any], path: str = "/v1/completions") -> str:
        async with self.http.post(self.url + path, json={**body, "stream": True}) as response:
            assert response.status == 200
            return await response.text()

    async def metrics(self) -> str:
        async with self.http.get(f"{self.url}/metrics") as response:
            return await response.text()


@contextlib.asynccontextmanager
async def serving(how: Settings, faults: Faults | None = None) -> AsyncIterator[Serving]:
    """Serve an engine on a free port until the block ends."""
    engine = Engine(how, asyncio.get_running_loop().time)
    faults = faults or Faults()
    server = EngineServer(engine, Exposition(engine), faults, None)
    runner = web.AppRunner(
        server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rooms = await asyncio.start_server(engine.rooms.serve, "127.0.0.1", 0, limit=LINE_LIMIT)
    loop = asyncio.create_task(engine.run())
    port = int(runner.addresses[0][1])
    bootstrap = int(rooms.sockets[0].getsockname()[1])
    connector = aiohttp.TCPConnector(force_close=True)
    try:
        async with aiohttp.ClientSession(connector=connector) as http:
            yield Serving(engine, f"http://127.0.0.1:{port}", bootstrap, faults, http)
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        engine.cut()
        rooms.close()
        await runner.cleanup()


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = 20.0) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    async with asyncio.timeout(within):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


@dataclass
class EngineProcess:
    """A real engine-sim process."""

    process: asyncio.subprocess.Process
    port: int
    bootstrap_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as http:

            async def healthy() -> bool:
                assert self.process.returncode is None, "the engine died while starting"
                try:
                    async with http.get(f"{self.url}/health") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(healthy)

    async def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = [line for line in lines if line.partition("{")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def engine_process(
    mode: str, *arguments: str, env: Mapping[str, str] | None = None, wait: bool = True
) -> AsyncIterator[EngineProcess]:
    """Run ``engine-sim`` with free ports and no start-up time; kill it at the end."""
    port, bootstrap = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heteroscale_workbench.engine_sim", "--mode", mode),
        *("--port", str(port), "--bootstrap-port", str(bootstrap), "--startup", "0"),
        *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    engine = EngineProcess(process, port, bootstrap)
    try:
        if wait:
            await engine.ready()
        yield engine
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def write_profile(folder: Path, *, roomy: bool = False) -> Path:
    """Write the small profile to a file and return its path.

    ``roomy`` has place for every stream of a test in one engine, at twice the time for a token: none
    then waits for another's end, and what is done to streams in mid-flight finds them in flight.
    """
    path = folder / "profile.yaml"
    path.write_text(ROOMY if roomy else PROFILE, "utf-8")
    return path


__all__ = [
    "PROFILE",
    "EngineProcess",
    "Serving",
    "engine_process",
    "profile",
    "serving",
    "settings",
    "until",
    "write_profile",
]
