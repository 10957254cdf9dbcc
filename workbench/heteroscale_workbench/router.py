"""Starts and stops a real sglang-router as a child process, for the demo and for tests.

How it is set: prefill/decode mode, or plain for aggregated engines, with no worker at the start (gates
add and remove them), retries off (a retry would hide a lost request), circuit breaker off and health
checks patient (a slow worker is not a dead one). See the workbench's README for how that router behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

READY_TIMEOUT = 30.0
READY_POLL = 0.05
WORKER_TIMEOUT = 30.0
STOP_GRACE = 5.0
CALL_TIMEOUT = 5.0
LEAST_LOAD = "least_load"
"""The worker with the fewest requests in flight; fair to a fleet of unlike GPUs. The router's own
power_of_two refuses to start without two workers, so this is cache_aware that always balances."""
_RETRIES = re.compile(r"^smg_worker_retries_total\{[^}]*\} (\S+)$", re.MULTILINE)


class RouterError(RuntimeError):
    """The router did not start, or did not do what it was asked in time."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as the router lists it."""

    id: str
    url: str
    role: str
    healthy: bool
    load: int


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def installed() -> bool:
    """Whether the sglang-router package is there."""
    return importlib.util.find_spec("sglang_router") is not None


class Router:
    """A sglang-router process. Use it as an async context manager, or call start and stop.

    Args:
        port: where it serves; 0 takes a free one at each first start, and keeps it.
        metrics_port: where its Prometheus metrics are; 0 as above.
        policy: how it picks a worker of a role: ``least_load``, or one of the router's own.
        log: file that its output is appended to; None throws it away.
        retries: False disables them; True is for tests that must see one.
        health_interval: seconds between its health checks; three failures take a worker out.
        disaggregated: prefill and decode workers; False: workers that do both.
        extra: more arguments for its command line.

    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        metrics_port: int = 0,
        policy: str = LEAST_LOAD,
        log: Path | None = None,
        retries: bool = False,
        health_interval: int = 5,
        disaggregated: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.port = port or free_port(host)
        self.metrics_port = metrics_port or free_port(host)
        self._policy = policy
        self._log = log
        self._retries = retries
        self._health_interval = health_interval
        self._disaggregated = disaggregated
        self._extra = tuple(extra)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Base URL for clients and gates."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    def command(self) -> list[str]:
        """Return the command line it is started with."""
        flags = [
            *("--host", self.host, "--port", str(self.port)),
            *_policy_flags(self._policy),
            "--disable-circuit-breaker",
            *("--prometheus-host", self.host, "--prometheus-port", str(self.metrics_port)),
            *("--worker-startup-check-interval", "1", "--worker-startup-timeout-secs", "600"),
            *("--health-check-interval-secs", str(self._health_interval)),
            *("--health-check-timeout-secs", "5", "--health-failure-threshold", "3"),
            *("--shutdown-grace-period-secs", "1", "--log-level", "warn"),
        ]
        if self._disaggregated:
            flags.append("--pd-disaggregation")
        if not self._retries:
            flags.append("--disable-retries")
        return [sys.executable, "-m", "sglang_router.launch_router", *flags, *self._extra]

    async def start(self) -> None:
        """Start it and wait until it answers; it needs no worker for that.

        Raises:
            RouterError: it exited, or did not answer in 30 s.

        """
        with contextlib.ExitStack() as stack:
            out: Any = asyncio.subprocess.DEVNULL
            if self._log is not None:
                out = stack.enter_context(self._log.open("ab"))
            self._process = await asyncio.create_subprocess_exec(
                *self.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT), self._client() as client:
                await _poll(lambda: self._answers(client))
        except (TimeoutError, RouterError) as error:
            await self.stop()
            raise RouterError(f"the router did not start: {error or 'timeout'}") from error

    async def stop(self) -> None:
        """TERM, five seconds, KILL. Nothing happens when it does not run."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE):
                await process.wait()
        except TimeoutError:
            await _kill(process)

    async def kill(self) -> None:
        """KILL it, as a crash would; it can be started again on the same port."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            await _kill(process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        if self.pid is not None:
            os.killpg(self.pid, number)

    async def workers(self) -> list[Worker]:
        """Return the workers it lists."""
        async with self._client() as client:
            reply = await client.get("/workers")
            reply.raise_for_status()
        return [
            Worker(w["id"], w["url"], w["worker_type"], bool(w["is_healthy"]), int(w["load"]))
            for w in reply.json()["workers"]
        ]

    async def add(self, url: str, role: str, bootstrap_port: int | None = None) -> Worker:
        """Add a worker and wait until it is listed as healthy.

        Raises:
            RouterError: it was not within 30 s.

        """
        body: dict[str, Any] = {"url": url, "worker_type": role}
        if bootstrap_port is not None:
            body["bootstrap_port"] = bootstrap_port
        async with self._client() as client:
            (await client.post("/workers", json=body)).raise_for_status()
        await self._until(lambda known: any(w.url == url and w.healthy for w in known), url)
        return next(w for w in await self.workers() if w.url == url)

    async def remove(self, url: str) -> None:
        """Remove the worker with ``url`` and wait until it is no longer listed.

        Raises:
            RouterError: it still was after 30 s.

        """
        async with self._client() as client:
            for worker in await self.workers():
                if worker.url == url:
                    (await client.delete(f"/workers/{worker.id}")).raise_for_status()
        await self._until(lambda known: all(w.url != url for w in known), url)

    async def retries(self) -> int:
        """Return how many retries the router itself has counted since its start."""
        async with httpx.AsyncClient(timeout=CALL_TIMEOUT, trust_env=False) as client:
            reply = await client.get(f"http://{self.host}:{self.metrics_port}/metrics")
        reply.raise_for_status()
        return round(sum(float(value) for value in _RETRIES.findall(reply.text)))

    async def _until(self, met: Callable[[list[Worker]], bool], what: str) -> None:
        async def now() -> bool:
            return met(await self.workers())

        try:
            async with asyncio.timeout(WORKER_TIMEOUT):
                await _poll(now)
        except TimeoutError as error:
            raise RouterError(f"the router did not follow for {what}") from error

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise RouterError("it exited")
        try:
            return (await client.get("/workers")).is_success
        except httpx.TransportError:
            return False

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=CALL_TIMEOUT, trust_env=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


def _policy_flags(policy: str) -> list[str]:
    if policy != LEAST_LOAD:
        return ["--policy", policy]
    always = ["--balance-abs-threshold", "0", "--balance-rel-threshold", "1.0"]
    return ["--policy", "cache_aware", *always]


async def _poll(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until ``condition`` holds; the router tells nobody, so it must be asked."""
    while True:
        if await condition():
            return
        await asyncio.sleep(READY_POLL)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
