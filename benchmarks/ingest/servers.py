"""The two servers as processes on a core of their own, and what can be read of them from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 20.0
_MIB = 1024 * 1024
_LINES_KEPT = 30


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server runs, and where everything else does."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divide(cls) -> Cores:
        """Give the server the first core we may use and the load the others."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others or {first}))

    @property
    def shared(self) -> bool:
        """Whether there is one core only, so that the ratio is all that counts."""
        return self.server == self.load


@dataclass(frozen=True, slots=True)
class Sight:
    """A server at one moment."""

    at: float
    cpu: float
    """Seconds of user and system time since its start."""
    core_busy: float
    """Seconds that its core was busy since boot, whoever used it."""
    rss_mib: float
    peak_mib: float
    metrics: dict[str, float]
    """Samples without labels by name, and the delay histogram's buckets by ``le``."""


class ServerProcess:
    """A running server: where it listens and how it does."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, cores: Cores) -> None:
        self.name = name
        self.target = self.http = ""
        self.words: deque[str] = deque(maxlen=_LINES_KEPT)
        """The last of what it said."""
        self._process = process
        self._seen = psutil.Process(process.pid)
        self._core = min(cores.server)
        self._client = httpx.AsyncClient(timeout=30.0, trust_env=False)

    async def listen(self, stream: asyncio.StreamReader, ports: asyncio.Future[Any]) -> None:
        """Read what it says until it ends; the first line with ports is the answer."""
        while line := (await stream.readline()).decode(errors="replace"):
            self.words.append(line.rstrip())
            if not ports.done() and '"http_port"' in line:
                ports.set_result(json.loads(line))
        if not ports.done():
            ports.set_exception(RuntimeError(f"{self.name} did not start: {self.last_words}"))

    @property
    def last_words(self) -> str:
        """What it said last."""
        return " | ".join(self.words)

    async def look(self) -> Sight:
        """Return its counters, CPU and memory now."""
        metrics = _samples((await self._client.get(f"http://{self.http}/metrics")).text)
        times, busy = self._seen.cpu_times(), psutil.cpu_times(percpu=True)[self._core]
        return Sight(
            at=time.monotonic(),
            cpu=times.user + times.system,
            core_busy=sum(busy) - busy.idle - busy.iowait - busy.guest - busy.guest_nice,
            rss_mib=self._seen.memory_info().rss / _MIB,
            peak_mib=_peak(self._process.pid),
            metrics=metrics,
        )

    async def close(self) -> None:
        """Stop the process."""
        await self._client.aclose()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def server(name: str, cores: Cores, data_dir: Path) -> AsyncIterator[ServerProcess]:
    """Run ``bare`` or ``coordinator`` on the server's core."""
    words = ["-m", "benchmarks.ingest.bare"]
    if name == "coordinator":
        words = ["-m", "heteroscale_coordinator", "--listen", "127.0.0.1:0"]
        words += ["--http", "127.0.0.1:0", "--data-dir", str(data_dir), "--log-format", "json"]
    process = await start(words, cores.server, stderr=asyncio.subprocess.STDOUT)
    running = ServerProcess(name, process, cores)
    ports: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    assert process.stdout is not None  # noqa: S101 - asked for
    listening = asyncio.create_task(running.listen(process.stdout, ports))
    try:
        async with asyncio.timeout(START_S):
            found = await ports
        running.target = f"127.0.0.1:{found['port']}"
        running.http = f"127.0.0.1:{found['http_port']}"
        yield running
    finally:
        await running.close()
        await listening


async def start(
    words: Sequence[str], cores: frozenset[int], **pipes: Any
) -> asyncio.subprocess.Process:
    """Start this Python on ``cores``. A child inherits them, so they are ours for a moment."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, **pipes
        )
    finally:
        os.sched_setaffinity(0, mine)


def _samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.labels:
                found[sample.name] = sample.value
            elif sample.name == "heteroscale_report_delay_seconds_bucket":
                found[sample.labels["le"]] = sample.value
    return found


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
