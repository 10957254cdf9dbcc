"""The processes of one measurement: world, coordinator, agents in several dresses, node-exporter."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.agent.texts import ENGINES
from heteroscale_workbench import nvml_stub
from heteroscale_workbench.cluster.processes import Part
from heteroscale_workbench.nvml_stub.build import LIBRARY_NAME
from heteroscale_workbench.router import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
EXPORTER = "prometheus-node-exporter"


class BenchError(RuntimeError):
    """The measurement cannot be made; the text says what is missing or what failed."""


@dataclass(frozen=True, slots=True)
class Dress:
    """One agent: what it has to watch, and whether there is a coordinator."""

    name: str
    gpus: bool = False
    nics: bool = False
    engines: bool = False
    coordinator: bool = True


FULL = Dress("agent", gpus=True, nics=True, engines=True)
DRESSES = (
    FULL,
    Dress("idle agent"),
    Dress("… 8 GPUs", gpus=True),
    Dress("… 8 NICs", nics=True),
    Dress("… 4 engines", engines=True),
    Dress("no coordinator", gpus=True, nics=True, engines=True, coordinator=False),
)


def exporter_path() -> str:
    """Return where node-exporter is.

    Raises:
        BenchError: it is not installed.

    """
    found = shutil.which(EXPORTER) or shutil.which("node_exporter")
    if found is None:
        raise BenchError(f"{EXPORTER} is missing (Debian: apt-get install {EXPORTER})")
    return found


class World:
    """The world's process from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ports: list[int] = []

    async def hear(self) -> list[int]:
        """Return the next line it says."""
        assert self._process.stdout is not None  # noqa: S101 - asked for
        async with asyncio.timeout(START_S):
            line = await self._process.stdout.readline()
        if not line:
            raise BenchError(f"the world ended with {await self._process.wait()}")
        numbers: list[int] = json.loads(line)
        return numbers

    async def end(self) -> list[int]:
        """Stop it; return how often each engine was scraped."""
        assert self._process.stdin is not None  # noqa: S101 - asked for
        self._process.stdin.close()
        return await self.hear()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Run the world in ``folder``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.agent.world", str(folder)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        running = World(process)
        running.ports = await running.hear()
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A coordinator's process and where it listens."""

    part: Part
    port: int
    http_port: int

    async def reports(self) -> float:
        """Return how many reports it has received; raises httpx.HTTPError while it starts."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{self.http_port}/metrics")
        name = "heteroscale_reports_received_total "
        lines = [line for line in answer.text.splitlines() if line.startswith(name)]
        return float(lines[0].split()[1]) if lines else 0.0


@asynccontextmanager
async def coordinator(folder: Path) -> AsyncIterator[Coordinator]:
    """Run a coordinator with its default settings, but for its addresses."""
    port, http_port = free_port(), free_port()
    words = [sys.executable, "-m", "heteroscale_coordinator"]
    words += ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http_port}"]
    words += ["--data-dir", str(folder / "coordinator"), "--log-format", "json"]
    running = Coordinator(Part("coordinator", words, folder / "coordinator.log"), port, http_port)
    async with _running(running.part):
        await _until_up(running)
        yield running


async def _until_up(running: Coordinator) -> None:
    async with asyncio.timeout(START_S):
        while True:
            running.part.require()
            try:
                await running.reports()
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
            else:
                return


@asynccontextmanager
async def agents(
    dresses: Sequence[Dress], folder: Path, port: int, engine_ports: Sequence[int]
) -> AsyncIterator[dict[str, Part]]:
    """Run an agent for each dress, all on the same devices and engines."""
    nvml_stub.build(folder)
    nowhere = free_port()
    parts = {}
    for place, dress in enumerate(dresses):
        document = folder / f"agent-{place}.yaml"
        target = port if dress.coordinator else nowhere
        spec = _spec(dress, folder, place, target, engine_ports)
        text = {"apiVersion": "heteroscale/v1", "kind": "Agent", "spec": spec}
        document.write_text(yaml.safe_dump(text), encoding="utf-8")
        words = [sys.executable, "-m", "heteroscale_agent", "--config", str(document)]
        parts[dress.name] = Part(
            dress.name,
            [*words, "--log-format", "json"],
            folder / f"agent-{place}.log",
            {nvml_stub.STATE_VARIABLE: str(folder / "gpus.state")},
        )
    async with _running(*parts.values()):
        yield parts


def _spec(
    dress: Dress, folder: Path, place: int, port: int, engine_ports: Sequence[int]
) -> dict[str, Any]:
    library = folder / LIBRARY_NAME
    engines = [
        {
            "instanceId": f"bench-{place}-{number}",
            "service": "bench",
            "role": "decode" if number % 2 else "prefill",
            "endpoint": f"http://127.0.0.1:{engine_port}",
            "engine": text.engine,
            "gpus": [2 * number, 2 * number + 1],
        }
        for number, (text, engine_port) in enumerate(zip(ENGINES, engine_ports, strict=True))
    ]
    return {
        "coordinator": f"127.0.0.1:{port}",
        "stateDir": str(folder / f"state-{place}"),
        "sampleInterval": "1s",
        "gpu": {"library": str(library)} if dress.gpus else {"source": "none"},
        "rdma": {"root": str(folder / ("infiniband" if dress.nics else "none"))},
        "engines": engines if dress.engines else [],
    }


@asynccontextmanager
async def exporter(folder: Path) -> AsyncIterator[tuple[Part, int]]:
    """Run node-exporter with its default collectors; yield it with its port."""
    port = free_port()
    words = [exporter_path(), f"--web.listen-address=127.0.0.1:{port}"]
    part = Part(EXPORTER, words, folder / "exporter.log")
    async with _running(part):
        yield part, port


@asynccontextmanager
async def _running(*parts: Part) -> AsyncIterator[None]:
    try:
        for part in parts:
            await part.start()
        yield
    finally:
        await asyncio.gather(*(part.stop() for part in parts))
