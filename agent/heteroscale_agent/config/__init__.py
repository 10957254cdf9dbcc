"""The agent's settings: one YAML document of kind Agent, units in the names or written out.

Everything has a sane default but the coordinator's address. What the agent may start is decided here
and nowhere else: a command names a template, never a program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, NonNegativeInt

from heteroscale.documents import DocumentModel, Duration, read_one
from heteroscale.taints import TaintText
from heteroscale_agent.config.devices import GpuSettings, RdmaSettings
from heteroscale_agent.config.discovery import Discovery
from heteroscale_agent.config.engines import (
    PortRange,
    Readiness,
    RoleSwitch,
    StaticEngine,
    Template,
)
from heteroscale_agent.config.fields import Name
from heteroscale_agent.config.gates import Gates, Hook
from heteroscale_agent.config.places import KubernetesAccess, Level, SlurmAccess, TopologySource
from heteroscale_agent.config.routers import Router, names_differ
from heteroscale_agent.config.trust import TlsSettings

__all__ = [
    "AgentDocument",
    "AgentSpec",
    "Gates",
    "GpuSettings",
    "Hook",
    "PortRange",
    "RdmaSettings",
    "Readiness",
    "RoleSwitch",
    "Router",
    "StaticEngine",
    "Template",
    "TlsSettings",
    "load",
]


class AgentSpec(DocumentModel):
    """What one agent sees, where it reports, and what it may do."""

    coordinator: str
    """host:port of the coordinator."""
    state_dir: Path = Path("/var/lib/heteroscale-agent")
    """Agent id, incarnation, journal. One agent per directory: it is locked."""
    log_dir: Path | None = None
    """Engines' log files; default `engines/` below the state directory."""
    keep_logs: NonNegativeInt = 20
    """Log files of this many ended instances are kept, the newest. Those of live ones always are, and
    those of the last hour's ended ones, 64 at most."""
    gate_dir: Path | None = None
    """Where `file` and `production-stack` gates may write; default `gates/` below the state directory."""
    agent_id: str = ""
    """Default: drawn once and kept in the state directory."""
    cluster_id: str = ""
    """Refuse coordinators of another cluster; empty accepts any."""
    advertise_host: str = "127.0.0.1"
    """Where routers and peers reach engines of this host."""
    insecure: bool = False
    """Dial beyond loopback without TLS."""
    tls: TlsSettings = TlsSettings()
    topology: dict[Level, str] = {}
    """Network domains of this host. HETEROSCALE_TOPOLOGY="s1=minipod-3,s2=pod-0" overrides."""
    topology_from: tuple[TopologySource, ...] = ()
    """Who names the domains that neither environment nor `topology` do; the first that names a level
    wins."""
    slurm: SlurmAccess = SlurmAccess()
    kubernetes: KubernetesAccess = KubernetesAccess()
    labels: dict[str, str] = {}
    """Words of your own about this host; they travel with its inventory."""
    taints: tuple[TaintText, ...] = ()
    """What keeps services away that do not tolerate it, as Kubernetes has it:
    `dedicated=train:NoSchedule`, `PreferNoSchedule` or `NoExecute`; see `placement.tolerations` of a
    service."""
    reconnect_within: Duration = 30.0
    """A lost coordinator is tried again later and later, at most so long apart; a fleet spreads over
    it. Shorter finds a restarted coordinator sooner, before the leases of what is withdrawn end; ten
    thousand agents need the 30s."""
    sample_interval: Duration = 1.0
    """How often probes run. Reports leave as often as the coordinator asks for."""
    scrape_timeout: Duration = 2.0
    """An engine that takes longer to show its metrics is stale."""
    reconcile_interval: Duration = 2.0
    """How often each gate is held against what its routers say."""
    ports: PortRange = PortRange()
    templates: dict[Name, Template] = {}
    """What this agent may start, by name. Nothing else is ever started."""
    hooks: dict[Name, Hook] = {}
    """Commands that `hook` gates may run, by name."""
    gates: Gates = Gates()
    """What other gates may write, ask and reload."""
    engines: tuple[StaticEngine, ...] = ()
    """Engines that somebody else started: watched, never commanded."""
    routers: Annotated[tuple[Router, ...], AfterValidator(names_differ)] = ()
    """Routers whose metrics tell what users feel: TTFT, refusals."""
    discovery: Discovery = Discovery()
    gpu: GpuSettings = GpuSettings()
    rdma: RdmaSettings = RdmaSettings()


class AgentDocument(DocumentModel):
    """A whole YAML document of kind Agent."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Agent"]
    spec: AgentSpec


def load(path: Path) -> AgentSpec:
    """Read the one Agent document of ``path``.

    Raises:
        DocumentError: with file, line and field of everything that is wrong.
        OSError: the file cannot be read.

    """
    return read_one(path, "Agent").parse(AgentDocument).spec
