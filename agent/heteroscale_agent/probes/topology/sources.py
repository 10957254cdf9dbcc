"""The sources of network domains, each as one call that takes no longer than its timeout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.config.places import KubernetesLevels, SlurmLevels, TopologySource
from heteroscale_agent.probes.kube import KubernetesApi
from heteroscale_agent.probes.source import SourceError, Thread, read_file, run
from heteroscale_agent.probes.topology import kubernetes, slurm
from heteroscale_agent.probes.topology.found import CONFIGURATION, ENVIRONMENT, Answer
from heteroscale_agent.probes.topology.names import (
    TopologyError,
    name_of,
    parse_text,
    parse_variable,
)

VARIABLE = "HETEROSCALE_TOPOLOGY"
_SLACK = 1.0
"""Seconds beyond its own deadline that a call in a thread is waited for."""

Read = Callable[[], Awaitable[Answer]]


class Source:
    """One entry of `topologyFrom`."""

    def __init__(self, name: str, read: Read, close: Callable[[], None]) -> None:
        self.name = name
        self._read = read
        self.close = close

    async def read(self) -> Answer:
        """Return what it says now, or why it says nothing; never raises."""
        try:
            answer = await self._read()
            for level, name in answer.levels.items():
                name_of(level, name)
        except (SourceError, TopologyError) as error:
            return Answer(self.name, problem=str(error))
        except Exception as error:  # noqa: BLE001 - no answer, however odd, may end the agent
            return Answer(self.name, problem=repr(error)[:500])
        return answer


def fixed(configured: Mapping[str, str], environ: Mapping[str, str]) -> list[Answer]:
    """Return what environment and configuration say, the stronger first.

    Raises:
        TopologyError: the variable HETEROSCALE_TOPOLOGY is malformed.

    """
    said = parse_variable(VARIABLE, environ.get(VARIABLE, ""))
    return [Answer(ENVIRONMENT, said), Answer(CONFIGURATION, dict(configured))]


def sources(spec: AgentSpec, environ: Mapping[str, str]) -> list[Source]:
    """Return the sources of `topologyFrom`, in its order."""
    return [_source(entry, spec, environ) for entry in spec.topology_from]


def _source(entry: TopologySource, spec: AgentSpec, environ: Mapping[str, str]) -> Source:
    if entry.slurm is not None:
        return _slurm(entry.slurm, entry.timeout, spec, environ)
    if entry.kubernetes is not None:
        return _kubernetes(entry.kubernetes, entry.timeout, spec, environ)
    if entry.file is not None:
        path = entry.file
        return _text(f"file {path}", lambda: read_file(path), entry.timeout)
    return _text(
        f"command {entry.command[0]}", lambda: run(entry.command, entry.timeout), entry.timeout
    )


def _text(name: str, job: Callable[[], str], timeout: float) -> Source:
    thread = Thread(f"topology {name}"[:60])

    async def read() -> Answer:
        return Answer(name, parse_text(await thread.call(job, timeout + _SLACK)))

    return Source(name, read, thread.close)


def _slurm(
    levels: SlurmLevels, timeout: float, spec: AgentSpec, environ: Mapping[str, str]
) -> Source:
    node = slurm.node_name(spec.slurm.node_name, environ)
    thread = Thread("topology slurm")

    async def read() -> Answer:
        text = await thread.call(lambda: slurm.ask(node, timeout), timeout + _SLACK)
        names, words = slurm.domains(text, node, levels)
        return Answer(f"slurm node {node}", names, words)

    return Source(f"slurm node {node}", read, thread.close)


def _kubernetes(
    wanted: KubernetesLevels, timeout: float, spec: AgentSpec, environ: Mapping[str, str]
) -> Source:
    api = KubernetesApi(spec.kubernetes, environ)
    name = f"kubernetes node {api.node_name}"

    async def read() -> Answer:
        found = kubernetes.domains(await api.node(timeout), wanted)
        names = {level: value for level, (value, _) in found.items()}
        words = {level: f"label {key} of {name}" for level, (_, key) in found.items()}
        return Answer(name, names, words)

    return Source(name, read, api.close)
