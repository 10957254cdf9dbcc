"""One measurement: a fresh server, fresh load processes, a warm-up, a window, figures."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest.figures import Figures, figures
from benchmarks.ingest.load import Load
from benchmarks.ingest.servers import Cores, server, start

CONNECT_S = 300.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. Times in seconds."""

    streams: int
    interval: float
    """Between reports of one stream; 0: flat out."""
    warm: float
    seconds: float
    loads: int
    hellos_per_second: float = 350.0
    probe_every: int = 20
    per_connection: int = 1

    @property
    def title(self) -> str:
        """What it is called in the progress lines."""
        pace = f"a report per {self.interval:g} s" if self.interval else "flat out"
        return f"{self.streams:,} streams, {pace}"


class LoadHandle:
    """One load process from outside."""

    def __init__(self, process: asyncio.subprocess.Process, streams: int) -> None:
        self._process = process
        self._streams = streams
        self.connected = 0

    async def ready(self) -> None:
        """Return when all its streams are welcomed."""
        while self.connected < self._streams:
            self.connected = (await self._hear())["connected"]

    def order(self, word: str) -> None:
        """Tell it to go, mark or stop."""
        assert self._process.stdin is not None  # noqa: S101 - asked for
        self._process.stdin.write(f"{word}\n".encode())

    async def stop(self) -> dict[str, Any]:
        """End it; return what it has seen."""
        self.order("stop")
        return await self._hear()

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - asked for
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a load process ended with {await self._process.wait()}")
        word: dict[str, Any] = json.loads(line)
        return word


@asynccontextmanager
async def _load(load: Load, cores: Cores) -> AsyncIterator[LoadHandle]:
    process = await start(
        ["-m", "benchmarks.ingest.load", load.text()],
        cores.load,
        stdin=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        yield LoadHandle(process, load.streams)
    finally:
        try:
            async with asyncio.timeout(10.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def measure(name: str, plan: Plan, cores: Cores, say: Say) -> Figures:
    """Run ``bare`` or ``coordinator`` under ``plan``."""
    async with AsyncExitStack() as stack:
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-ingest-")))
        running = await stack.enter_async_context(server(name, cores, data_dir))
        loads = [
            await stack.enter_async_context(_load(share, cores))
            for share in _shares(plan, running.target)
        ]
        await _connected(loads, plan, name, say)
        for one in loads:
            one.order("go")
        await asyncio.sleep(plan.warm)
        for one in loads:
            one.order("mark")
        before = await running.look()
        await asyncio.sleep(plan.seconds)
        after = await running.look()
        heard = await asyncio.gather(*(one.stop() for one in loads))
        result = figures(name, plan.streams, before, after, heard)
    say(f"{name:<11} {plan.title}: {result.sentence}")
    return result


def _shares(plan: Plan, target: str) -> list[Load]:
    size = -(-plan.streams // plan.loads)
    return [
        Load(
            target=target,
            first=first,
            streams=min(size, plan.streams - first),
            interval=plan.interval,
            hellos_per_second=plan.hellos_per_second / plan.loads,
            probe_every=plan.probe_every,
            per_connection=plan.per_connection,
        )
        for first in range(0, plan.streams, size)
    ]


async def _connected(loads: list[LoadHandle], plan: Plan, name: str, say: Say) -> None:
    ready = asyncio.gather(*(one.ready() for one in loads))
    async with asyncio.timeout(CONNECT_S):
        while not (await asyncio.wait({ready}, timeout=10.0))[0]:
            there = sum(one.connected for one in loads)
            say(f"{name:<11} {plan.title}: {there:,} connected")
        await ready
