"""Engines: what the agent may start, and what others started and it watches."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from heteroscale.documents import DocumentModel, Duration
from heteroscale.words import Role
from heteroscale_agent.config.fields import EngineKind, Name, Port, usual_metrics_path
from heteroscale_agent.quiescence import KV_LEASE


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


class RoleSwitch(DocumentModel):
    """How a running engine changes between prefill and decode: SGLang's `--enable-pd-role-switch`.

    The instance is taken out of its routers, emptied, asked, and let in under its new role. The engine
    must be started so that it can play both roles: a decode template needs a {bootstrap_port} too.
    """

    path: str = "/pd_role_switch"
    """Asked with `{"new_role": …}`, on the instance's first port."""
    info_path: str = "/server_info"
    """Where the engine says which role it has (`internal_states[].disaggregation_mode`)."""
    to_prefill: dict[str, JsonValue] = {}
    """What else is sent when it becomes prefill."""
    to_decode: dict[str, JsonValue] = {}
    """What else is sent when it becomes decode, e.g. {decode_cuda_graph_memory_gb: 1.5}, which newer
    versions ask for before they capture graphs."""
    timeout: Duration = 120.0
    """One answer may take so long: graphs are captured."""
    settle: Duration = 5.0
    """After every router confirmed the removal: requests already on their way arrive."""
    quiet_scrapes: PositiveInt = 3
    """Fresh scrapes in a row with nothing running, waiting or in transfer before it is asked."""
    give_up_after: Duration = 600.0
    """Not quiet, or no role known, for so long: it goes back as it was, or counts as failed."""


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
    version: str = ""
    """The engine's version, e.g. 0.5.21, until one says its own (vLLM and SGLang are asked): nothing is
    started by it. When it changes, targets set for another are called stale. Empty: untold."""
    gpus: PositiveInt = 1
    """GPUs of one instance; the chosen ones stand in CUDA_VISIBLE_DEVICES."""
    env: dict[str, str] = {}
    """Added to the agent's own environment."""
    parameters: dict[str, str] = {}
    """Parameters a command may set, each with a regular expression its whole value must match."""
    ports: PositiveInt = 2
    """How many ports one instance draws: the first is {port}, the second {bootstrap_port}."""
    readiness: Readiness = Readiness()
    metrics_path: str = Field(default_factory=usual_metrics_path)
    """Where its metrics are, on its first port. Default `/metrics`, with `tensorrt-llm`
    `/prometheus/metrics`."""
    model_name: str = ""
    """Read only the series of the model served under this name, which may be a {parameter}; empty:
    all that the page shows."""
    user: str = ""
    """The user to run as; empty: the agent's own."""
    stop_waits_for_requests: bool = False
    """The engine finishes what is in flight on TERM by itself."""
    kv_lease: Duration = KV_LEASE
    """How long a prefill may keep KV that no decode has fetched: what its engine was told, and a little
    more. A drain waits so long for KV usage that never gets to zero."""
    role_switch: RoleSwitch | None = None
    """How its instances switch between prefill and decode; without it `switch_role` is refused."""

    @model_validator(mode="after")
    def _switches(self) -> Self:
        if self.role_switch is not None and self.role not in (Role.PREFILL, Role.DECODE):
            raise ValueError(f"roleSwitch is for prefill and decode, not for {self.role}")
        return self


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
    metrics_path: str = Field(default_factory=usual_metrics_path)
    """Where its metrics are. Default `/metrics`, with `tensorrt-llm` `/prometheus/metrics`."""
    model_name: str = ""
    """Read only the series of the model served under this name; empty: all that the page shows. An
    engine that serves models of several services is listed once for each."""
