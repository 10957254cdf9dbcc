"""The sources of sightings, each asked in its own time; what it said last holds while it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.discovery import jobs, pods
from heteroscale_agent.discovery.procs import Look, ProcessScan
from heteroscale_agent.discovery.sighting import Sighting
from heteroscale_agent.probes.kube import KubernetesApi
from heteroscale_agent.probes.source import SourceError, Thread
from heteroscale_agent.probes.topology.slurm import node_name

log = structlog.get_logger(__name__)

SCAN_DEADLINE = 10.0
"""Seconds that a look through /proc may take."""
_SLACK = 1.0

Value = TypeVar("Value")
Sleep = Callable[[float], Awaitable[None]]


@dataclass
class Source(Generic[Value]):
    """Asks again and again, and keeps the last good answer."""

    name: str
    kind: str
    """The kind of owner whose engines end when this source no longer sees them."""
    ask: Callable[[], Awaitable[Value]]
    every: float
    on_news: Callable[[], None]
    close: Callable[[], None]
    sleep: Sleep = asyncio.sleep
    answer: Value | None = None
    """None: it has not answered since the agent started."""
    problem: str = ""

    async def run(self) -> None:
        """Ask for ever; never raises."""
        while True:
            problem = ""
            try:
                self.answer = await self.ask()
            except SourceError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - no answer, however odd, may blind the agent
                problem = repr(error)[:500]
            if problem != self.problem:
                say = log.warning if problem else log.info
                say("discovery", source=self.name, problem=problem or "none any more")
            self.problem = problem
            self.on_news()
            await self.sleep(self.every)


def pod_source(
    spec: AgentSpec, environ: Mapping[str, str], on_news: Callable[[], None]
) -> Source[list[Sighting]] | None:
    """Return the source of pods, if they are looked for."""
    wanted = spec.discovery.kubernetes
    if wanted is None:
        return None
    api, adapted = KubernetesApi(spec.kubernetes, environ), bool(spec.kubernetes.cluster)

    async def ask() -> list[Sighting]:
        return await pods.sightings(api, wanted, adapted=adapted)

    return Source("kubernetes", "pod", ask, wanted.every, on_news, api.close)


def job_source(
    spec: AgentSpec, environ: Mapping[str, str], on_news: Callable[[], None]
) -> Source[list[Sighting]] | None:
    """Return the source of jobs, if they are looked for."""
    wanted = spec.discovery.slurm
    if wanted is None:
        return None
    node, thread = node_name(spec.slurm.node_name, environ), Thread("slurm jobs")

    async def ask() -> list[Sighting]:
        def job() -> list[Sighting]:
            return jobs.ask(node, wanted.format, wanted.timeout)

        return await thread.call(job, wanted.timeout + _SLACK)

    return Source("slurm", "job", ask, wanted.every, on_news, thread.close)


def process_source(
    spec: AgentSpec, uuids: Callable[[], Mapping[str, int]], on_news: Callable[[], None]
) -> Source[Look]:
    """Return the source of processes; pods and jobs need it too, for their GPUs."""
    wanted = spec.discovery.processes
    every = wanted.every if wanted is not None else 15.0
    scan, thread = ProcessScan(), Thread("processes")

    async def ask() -> Look:
        known = uuids()
        return await thread.call(lambda: scan.look(known), SCAN_DEADLINE)

    return Source("processes", "process", ask, every, on_news, thread.close)
