"""A HeteroScale of real processes on loopback: coordinator, agents over stub GPUs, real routers.

    LocalCluster ── coordinator (SQLite)
                 ├─ agent-0 … agent-7 ── engine-sim …   (engines belong to agents, not to us)
                 └─ router (sglang-router, P/D mode, retries off)

GPUs are rows of the NVML stub's state file, one file per agent; the engines' own busy figures are
copied into them, so that agents read them through the real pynvml.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from heteroscale.documents import write_document
from heteroscale_workbench import nvml_stub
from heteroscale_workbench.cluster import documents, engines, operator
from heteroscale_workbench.cluster.layout import Host, Layout, two_minipods
from heteroscale_workbench.cluster.processes import Part, ProcessError
from heteroscale_workbench.cluster.wire import Wire
from heteroscale_workbench.rdma_tree import RdmaHost
from heteroscale_workbench.router import Router, free_port

__all__ = ["Host", "Layout", "LocalCluster", "running", "two_minipods", "until"]

READY_TIMEOUT = 30.0
FEED_INTERVAL = 0.5
PORTS_PER_AGENT = 40


class LocalCluster:
    """The parts by name, started and stopped together or one by one."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.directory = layout.directory
        self.port, self.http_port = free_port(), free_port()
        self.coordinator = self._coordinator()
        self.agents = {host.name: self._agent(host) for host in layout.hosts}
        self.routers = [
            Router(
                log=self.directory / f"router-{i}.log",
                policy="round_robin",
                disaggregated=layout.disaggregated,
            )
            for i in range(layout.routers)
        ]
        self.wires = {host.name: Wire(self.port) for host in layout.hosts if layout.wires}
        """The agents' links, by agent, when the layout asks for them."""
        self.seen_dir = self.directory / "seen"
        self._gpus: dict[str, nvml_stub.StubState] = {}
        self._nics: dict[str, RdmaHost] = {}
        self._feeder: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port of the coordinator."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Base URL of the first router."""
        return self.routers[0].url

    def operator(self) -> operator.Operator:
        """Return a client; use it as an async context."""
        return operator.Operator(self.address, self.layout.operator_tls)

    # ---- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and wait until every agent is connected.

        Raises:
            ProcessError, RouterError: a part did not come up; the text has its last log lines.

        """
        library = await asyncio.to_thread(nvml_stub.build, self.directory)
        self.seen_dir.mkdir(exist_ok=True)
        for index, host in enumerate(self.layout.hosts):
            self._write_agent(index, host, library)
        self._write_coordinator()
        await asyncio.gather(*(wire.start() for wire in self.wires.values()))
        await asyncio.gather(*(router.start() for router in self.routers))
        if self.layout.coordinator:
            await self.coordinator.start()
            # Agents that find nobody come again later and later.
            await self.wait_for_agents(0)
        for agent in self.agents.values():
            await agent.start()
        self._feeder = asyncio.create_task(self._feed())
        if self.layout.coordinator:
            await self.wait_for_agents(len(self.agents))

    async def stop(self) -> None:
        """Stop everything, engines too, and leave no process behind.

        Whatever goes wrong with one part, the others are stopped. Engines go as soon as their agents
        have: they may keep every processor busy, and agents that saw them die would speak of it.
        """
        async with contextlib.AsyncExitStack() as last_first:
            last_first.push_async_callback(_all, [wire.close for wire in self.wires.values()])
            last_first.push_async_callback(_all, [router.stop for router in self.routers])
            last_first.push_async_callback(self.coordinator.stop)
            last_first.push_async_callback(asyncio.to_thread, engines.kill, self.directory)
            last_first.push_async_callback(_all, [agent.stop for agent in self.agents.values()])
            if self._feeder is not None:
                self._feeder.cancel()
                await asyncio.gather(self._feeder, return_exceptions=True)

    async def wait_for_agents(self, number: int) -> None:
        """Wait until so many agents are connected."""

        async def there() -> bool:
            self.coordinator.require()
            async with self.operator() as client:
                try:
                    nodes = await client.nodes()
                except operator.Error:
                    return False
            return sum(node.connected for node in nodes) >= number

        await until(there, READY_TIMEOUT, f"{number} agents connected")

    def engine_processes(self) -> dict[str, psutil.Process]:
        """Return the engines' processes by instance id; of several processes, the leader."""
        return engines.leaders(self.directory)

    # ---- parts ---------------------------------------------------------------------------------

    def _coordinator(self) -> Part:
        config = self.directory / "coordinator.yaml"
        command = [sys.executable, "-m", "heteroscale_coordinator", "--config", str(config)]
        return Part("coordinator", command, self.directory / "coordinator.log", _ENVIRON)

    def _agent(self, host: Host) -> Part:
        folder = self.directory / host.name
        folder.mkdir(parents=True, exist_ok=True)
        environ = {
            **_ENVIRON,
            nvml_stub.STATE_VARIABLE: str(folder / "gpus.txt"),
        }
        command = [
            sys.executable,
            "-m",
            "heteroscale_agent",
            "run",
            "-c",
            str(folder / "agent.yaml"),
        ]
        return Part(host.name, command, folder / "agent.log", environ)

    def _write_coordinator(self) -> None:
        http_address = f"127.0.0.1:{self.http_port}"
        document = documents.coordinator(self.layout, self.address, http_address)
        _write(self.directory / "coordinator.yaml", document)

    def _write_agent(self, index: int, host: Host, library: Path) -> None:
        folder = self.directory / host.name
        state = nvml_stub.StubState(
            folder / "gpus.txt",
            [nvml_stub.StubGpu(name=f"NVIDIA {kind}") for kind in host.gpu_types],
        )
        state.write()
        self._gpus[host.name] = state
        if self.layout.nics:
            pairs = len(host.gpu_types)
            self._nics[host.name] = RdmaHost.build(folder / "rdma", "mlx5-roce", pairs)
        first = _first_port() + index * PORTS_PER_AGENT
        wire = self.wires.get(host.name)
        place = documents.Place(
            coordinator=wire.address if wire else self.address,
            folder=folder,
            ports=range(first, first + PORTS_PER_AGENT),
            library=library,
            seen_dir=self.seen_dir,
        )
        _write(folder / "agent.yaml", documents.agent(self.layout, host, place))

    # ---- simulated GPUs --------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Copy the engines' busy figures into the stub's GPUs."""
        while True:
            for name, state in self._gpus.items():
                self._feed_one(self.directory / name, state)
                if (nics := self._nics.get(name)) is not None:
                    _feed_ports(nics, state)
            await asyncio.sleep(FEED_INTERVAL)

    @staticmethod
    def _feed_one(folder: Path, state: nvml_stub.StubState) -> None:
        before = list(state.gpus)
        for index in range(len(state.gpus)):
            busy = _busy(folder / f"busy-{index}.json")
            state.change(
                index,
                utilization_percent=round(100 * busy.get("busy", 0.0)),
                sm_activity_percent=round(100 * busy.get("busy", 0.0)),
                memory_used_mib=round(busy.get("memory", 0.0) * state.gpus[index].memory_total_mib),
                pids=(int(busy["pid"]),) if "pid" in busy else (),
            )
        if state.gpus != before:
            state.write()


def _feed_ports(host: RdmaHost, state: nvml_stub.StubState) -> None:
    """Let each port move KV as its GPU works: half its rate at full load."""
    for port, gpu in zip(host.ports, state.gpus, strict=True):
        full = port.family.rate_gbps * 1e9 / 8 * FEED_INTERVAL
        octets = int(full * gpu.utilization_percent / 200)
        if octets:
            port.transfer(sent=octets, received=octets)


async def _all(ends: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Call all at once, wait for all, and raise what the first of them raised."""
    for outcome in await asyncio.gather(*(end() for end in ends), return_exceptions=True):
        if outcome is not None:
            raise outcome


_ENVIRON = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(write_document(document), encoding="utf-8")


def _busy(path: Path) -> dict[str, float]:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        os.kill(int(figures["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return {}
    return dict(figures)


def _first_port() -> int:
    """Return where the agents' ports begin; clusters of one machine start apart from each other."""
    return 21_000 + os.getpid() % 60 * 400


async def until(
    condition: Callable[[], Any],
    timeout: float,  # noqa: ASYNC109 - it becomes an asyncio.timeout
    what: str,
    poll: float = 0.1,
) -> None:
    """Wait until an async ``condition`` holds.

    Raises:
        ProcessError: it did not within ``timeout`` seconds; the text says ``what`` was awaited.

    """
    try:
        async with asyncio.timeout(timeout):
            while not await condition():  # noqa: ASYNC110 - nobody tells, so it is asked
                await asyncio.sleep(poll)
    except TimeoutError:
        raise ProcessError(f"not within {timeout:g} s: {what}") from None


@contextlib.asynccontextmanager
async def running(layout: Layout) -> AsyncIterator[LocalCluster]:
    """Start a cluster, and stop it whatever happens."""
    cluster = LocalCluster(layout)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
