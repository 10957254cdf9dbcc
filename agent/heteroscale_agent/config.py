"""The agent's settings: one YAML document of kind Agent, units in the names or written out.

Everything has a sane default but the coordinator's address. What the agent may start is decided here
and nowhere else: a command names a template, never a program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from heteroscale.channel import TlsFiles
from heteroscale.documents import DocumentModel, Duration, read_one
from heteroscale.words import Role

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
EngineKind = Literal["vllm", "sglang"]


class PortRange(DocumentModel):
    """Ports that templates draw from, both ends included. Ports in use are skipped."""

    first: Port = 20000
    """The lowest port."""
    last: Port = 29999
    """The highest port."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first {self.first} is above last {self.last}")
        return self


class Readiness(DocumentModel):
    """When a started engine counts as ready: HTTP 200 from this path."""

    path: str = "/health"
    """On the instance's first port."""
    period: Duration = 1.0
    """From one probe to the next."""
    timeout: Duration = 2.0
    """An answer that takes longer is none."""


class Template(DocumentModel):
    """One thing the agent may start.

    `command` and `env` may use {port}, {bootstrap_port}, {port_3} … (drawn from `ports`), {host},
    {instance_id}, {service}, {role}, {rank}, {rank_count}, {leader_host}, {gpus} (comma-separated
    indices) and {parameter names listed in `parameters`}. There is no shell.
    """

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its arguments."""
    role: Role
    """`prefill`, `decode`, `aggregated`, `attention` or `ffn`; a command for another is refused."""
    engine: EngineKind = "vllm"
    """Whose metric names it shows."""
    gpus: PositiveInt = 1
    """GPUs of one instance; the chosen ones stand in CUDA_VISIBLE_DEVICES."""
    env: dict[str, str] = {}
    """Added to the agent's own environment."""
    parameters: dict[str, str] = {}
    """Parameters a command may set, each with a regular expression its whole value must match."""
    ports: PositiveInt = 2
    """How many ports one instance draws: the first is {port}, the second {bootstrap_port}."""
    readiness: Readiness = Readiness()
    metrics_path: str = "/metrics"
    """Where its metrics are, on its first port."""
    user: str = ""
    """The user to run as; empty: the agent's own."""
    stop_waits_for_requests: bool = False
    """The engine finishes what is in flight on TERM by itself."""


class Hook(DocumentModel):
    """Commands a `hook` gate runs; {instance_id}, {endpoint}, {role} and {service} are filled in.

    `check` exits 0 when traffic reaches the instance, 1 when it does not; anything else is unknown.
    """

    open: Annotated[tuple[str, ...], Field(min_length=1)]
    """Lets traffic in; exit code 0 means it was done."""
    close: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keeps traffic out; no drain goes on before it was done."""
    check: tuple[str, ...] = ()
    """Asked every `reconcileInterval`. Without it `open` and `close` are believed."""
    timeout: Duration = 10.0
    """A command that takes longer is killed."""


class GpuSettings(DocumentModel):
    """Where GPU readings come from."""

    source: Literal["nvml", "none"] = "nvml"
    """`none`: this host's GPUs are not watched, and GPU indices of commands are taken on trust."""
    library: Path | None = None
    """An NVML library to load instead of the system's libnvidia-ml.so.1."""
    types: dict[str, str] = {}
    """Driver name to the short type of specifications; unlisted names are shortened by rule."""


class RdmaSettings(DocumentModel):
    """Where RDMA readings come from."""

    root: Path = Path("/sys/class/infiniband")
    """Where the kernel lists RDMA devices."""


class StaticEngine(DocumentModel):
    """An engine that somebody else started here and the agent should watch."""

    instance_id: Name
    """A name that lasts, unlike any other in the cluster."""
    service: Name
    """The service it works for."""
    role: Role
    """What it does there."""
    endpoint: str
    """Where it serves, `http://host:port`."""
    engine: EngineKind = "vllm"
    """Whose metric names it shows."""
    gpus: tuple[NonNegativeInt, ...] = ()
    """Indices of the GPUs it holds; nothing else is launched on them."""
    metrics_path: str = "/metrics"
    """Where its metrics are."""


class TlsSettings(DocumentModel):
    """PEM files of the link. The server is always checked against `ca`."""

    ca: Path | None = None
    """The authority that signed the coordinator's certificate."""
    certificate: Path | None = None
    """This agent's own certificate, for mutual TLS."""
    key: Path | None = None
    """The certificate's private key."""
    server_name: str = ""
    """The name in the coordinator's certificate, where it is another than the one dialled."""

    def files(self) -> TlsFiles:
        """Return them as the channel wants them."""
        return TlsFiles(self.ca, self.certificate, self.key, self.server_name)


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
    """Where `file` gates may write; default `gates/` below the state directory."""
    agent_id: str = ""
    """Default: drawn once and kept in the state directory."""
    cluster_id: str = ""
    """Refuse coordinators of another cluster; empty accepts any."""
    advertise_host: str = "127.0.0.1"
    """Where routers and peers reach engines of this host."""
    insecure: bool = False
    """Dial beyond loopback without TLS."""
    tls: TlsSettings = TlsSettings()
    topology: dict[
        Literal["s0", "s1", "s2", "logical_cluster", "physical_cluster", "vdc"], str
    ] = {}
    """Network domains of this host. HETEROSCALE_TOPOLOGY="s1=minipod-3,s2=pod-0" overrides."""
    labels: dict[str, str] = {}
    """Words of your own about this host; they travel with its inventory."""
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
    engines: tuple[StaticEngine, ...] = ()
    """Engines that somebody else started: watched, never commanded."""
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
