"""What a local cluster is made of: hosts with their simulated GPUs, and how everything is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heteroscale.channel import TlsFiles
from heteroscale_coordinator.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Host:
    """One agent's simulated host."""

    name: str
    gpu_types: tuple[str, ...]
    s1: str
    s2: str = "bigpod-0"
    engine_options: tuple[str, ...] = ()
    """More arguments for the engines of this host, after the layout's."""
    static_engines: tuple[Mapping[str, Any], ...] = ()
    """Engines that somebody else starts there, as the agent's configuration names them."""
    physical_cluster: str = ""


def two_minipods(agents: int = 8, gpus: int = 2) -> list[Host]:
    """Return hosts in two S1 domains, each with both GPU types."""
    return [
        Host(
            f"agent-{index}",
            ("H20" if index % 2 else "L20",) * gpus,
            f"minipod-{index * 2 // agents}",
        )
        for index in range(agents)
    ]


@dataclass(slots=True)
class Layout:
    """What to build."""

    directory: Path
    hosts: Sequence[Host] = field(default_factory=two_minipods)
    rules: Rules = field(default_factory=Rules)
    engine_startup: float = 1.0
    routers: int = 1
    disaggregated: bool = True
    """Whether the routers serve prefill and decode workers, or workers that do both."""
    flavour: str = "sglang"
    engine_options: Sequence[str] = ()
    """More arguments for every engine-sim."""
    reconcile_interval: float = 1.0
    sample_interval: float = 0.5
    nics: bool = False
    """Whether each host has an RDMA port beside each GPU, as busy as that is."""
    wires: bool = False
    """Whether each agent reaches the coordinator over a link that a test can break."""
    coordinator_spec: Mapping[str, Any] = field(default_factory=dict)
    agent_spec: Mapping[str, Any] = field(default_factory=dict)
    """More of the coordinator's and of every agent's configuration, over what the cluster writes."""
    operator_tls: TlsFiles = field(default_factory=TlsFiles)
    """What the cluster's own operator shows."""
    coordinator: bool = True
    """False: somebody else listens at `LocalCluster.address`, and agents are not waited for."""
