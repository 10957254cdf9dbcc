"""What a user writes: the specification of a service, with unit, formula and risk beside each field.

The same models validate the YAML, are read by the core, and yield the JSON Schema
(``heteroscale schema``), so that nothing is described twice. They are frozen values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale.words import Role

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, le=1)]


class RoleSpec(DocumentModel):
    """One role of a service: what is launched for it, on what, between which counts."""

    template: Name
    """Launch template of the agents; an agent that does not allow it is not asked."""
    gpu_types: tuple[str, ...] = ()
    """GPU types in order of preference, e.g. [H20, L20]. Empty: any."""
    gpus: PositiveInt = 1
    """GPUs of one rank."""
    ranks: PositiveInt = 1
    """Processes of one instance, each on an agent of its own when above 1."""
    min: PositiveInt = 1
    """Fewest instances; what is missing is launched whatever the signals say."""
    max: PositiveInt = 1
    """Most instances in service, starting or silent. Withdrawn ones still hold GPUs: see `maxGpus`."""
    target: PositiveFloat | dict[str, PositiveFloat] = 1000.0
    """Tokens per second one instance should carry at the measured mean context: decode tokens for
    decode and aggregated, cache-missed prompt tokens for prefill. One number, or one for each GPU
    type. Too high queues requests before a scale-out comes; too low wastes GPUs. From a pressure test."""
    startup_timeout: Duration = 600.0
    """Not ready after this long: the launch has failed, and is tried elsewhere with backoff."""
    parameters: dict[str, str] = {}
    """Values for `{name}` in the launch template."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def target_of(self, gpu_type: str) -> float:
        """Return the target of ``gpu_type``; the mean of the given ones for a type not named."""
        if isinstance(self.target, dict):
            fallback = sum(self.target.values()) / len(self.target)
            return self.target.get(gpu_type, fallback)
        return self.target

    @model_validator(mode="after")
    def _target_named(self) -> Self:
        if isinstance(self.target, dict) and not self.target:
            raise ValueError("target: name at least one GPU type")
        return self


def _parse_ratio(value: Any) -> Any:
    if isinstance(value, str):
        left, colon, right = value.partition(":")
        try:
            quotient = float(left) / float(right) if colon else float(left)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is no ratio: write 1:2 (prefill:decode) or 0.5") from None
        return {"min": quotient, "max": quotient}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"min": value, "max": value}
    return value


class RatioSpec(DocumentModel):
    """Prefill instances per decode instance. `min` = `max` is the paper's fixed ratio."""

    min: PositiveFloat
    """Fewest prefill instances per decode instance."""
    max: PositiveFloat
    """Most of them; prefill follows its own demand between the two."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


_RatioText = Annotated[
    str,
    Field(
        pattern=r"^\d+(\.\d+)?(:\d+(\.\d+)?)?$",
        description="Prefill:decode such as 1:2, or 0.5.",
    ),
]
Ratio = Annotated[
    RatioSpec,
    BeforeValidator(_parse_ratio, json_schema_input_type=_RatioText | PositiveFloat | RatioSpec),
]


class SloSpec(DocumentModel):
    """What users were promised; the latency guard watches it. Unset: not watched."""

    ttft: Duration | None = None
    """Mean time to first token: at the routers, where all of the service's tell it, else at prefill."""
    tbt: Duration | None = None
    """Mean time between tokens."""


NEEDED_OPTIONS = {
    "production-stack": ("path", "model"),
    "http": ("hook",),
    "upstream-file": ("upstream",),
    "haproxy-socket": ("haproxy",),
    "file": ("path",),
}
"""Options without which an agent would refuse every launch."""


class GateSpec(DocumentModel):
    """How traffic reaches instances and is kept from them. An instance's agent owns its gate."""

    kind: Literal[
        "sglang-router",
        "production-stack",
        "labels",
        "http",
        "upstream-file",
        "haproxy-socket",
        "hook",
        "file",
        "none",
    ] = "none"
    """`sglang-router`: workers added and removed over its API. `production-stack`: backends in the
    dynamic config file of vLLM's router, as it says it has loaded it. `labels`: a label on the pod.
    `http`: requests of the agent's own configuration. `upstream-file`: servers in a file of nginx or
    HAProxy, which reload. `haproxy-socket`: servers over HAProxy's stats socket. `hook`: commands of
    the agent's own configuration. `file`: endpoints in a file that a router reads. `none`: traffic is
    not steered."""
    routers: tuple[str, ...] = ()
    """`sglang-router`, `production-stack`: base URL of every router; each is held to it on its own."""
    options: dict[str, str] = {}
    """`production-stack`: `path` of the file below the agent's gate folder, `model` (the served name);
    `routing_logic` for a new file. `labels`: `key`, `value`, `outValue`, `pod`. `http`: `hook` names one
    of the agent's `gates.http`. `upstream-file`: `upstream` names one of `gates.upstreams`.
    `haproxy-socket`: `haproxy` names one of `gates.haproxy`. `hook`: `hook` (or `open` and `close`) name
    hooks of the agent. `file`: `path` below the gate folder, and `format` (`json` or `lines`)."""

    @model_validator(mode="after")
    def _routers(self) -> Self:
        if self.kind in ("sglang-router", "production-stack") and not self.routers:
            raise ValueError(f"kind {self.kind} needs `routers`, e.g. [http://10.0.0.1:30000]")
        for url in self.routers:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"router {url!r} is no http:// or https:// URL")
        return self

    @model_validator(mode="after")
    def _options(self) -> Self:
        for name in NEEDED_OPTIONS.get(self.kind, ()):
            if not self.options.get(name):
                raise ValueError(f"kind {self.kind} needs `options.{name}`")
        return self


class DrainSpec(DocumentModel):
    """How an instance is emptied before its process is stopped."""

    settle: Duration = 5.0
    """After every router confirmed the removal: requests already on their way arrive."""
    quiet_scrapes: PositiveInt = 3
    """Fresh scrapes in a row with nothing running, waiting or in transfer before TERM."""
    force_after: Duration | None = 1800.0
    """TERM anyway after this long, said aloud. null: never. A request longer than this is cut."""
    grace: Duration = 30.0
    """TERM → this long → KILL."""
    lease: Duration = 30.0
    """Without a coordinator's renewal for this long, a withdrawn or draining instance goes back
    into service. Shorter heals faster after a coordinator is lost; must outlast its restart."""


class GuardSpec(DocumentModel):
    """The latency safety net (paper §3, negative feedback). One tier."""

    breach: Annotated[float, Field(gt=0)] = 1.1
    """A mean above this multiple of the SLO, over the short window, is a breach."""
    step: Fraction = 0.10
    """Share of the in-service count when the breach began that one step adds; at least one."""
    startup: Duration = 120.0
    """Start-up time assumed until some instances have been measured (then their p90)."""


class ConsentSpec(DocumentModel):
    """What must all be true before anything is withdrawn."""

    kv_usage: Fraction = 0.80
    """Highest KV-cache usage, 0 to 1, of any decode instance."""
    latency: Fraction = 0.90
    """Means must be under this share of the SLO."""
    queue_per_instance: Annotated[float, Field(ge=0)] = 0.5
    """Waiting and transferring requests per instance that still count as none."""
    max_context: PositiveFloat | None = None
    """Mean prompt tokens up to which `target` was tested; above it nothing is withdrawn."""


class PolicySpec(DocumentModel):
    """How counts follow demand. Defaults are the house's, not the paper's (it states none)."""

    demand: Literal["joint", "served"] = "joint"
    """`joint`: max(served, arrivals × mean output, served + backlog ÷ horizon). `served` is the
    paper's signal alone; it cannot exceed capacity, so an overload shows late."""
    tolerance_out: Fraction = 0.10
    """θ: out when demand ÷ supply exceeds 1 + θ."""
    tolerance_in: Fraction = 0.10
    """θ: in when demand ÷ supply is below 1 − θ."""
    window_out: Duration = 15.0
    """Window that scale-out reads."""
    window_in: Duration = 60.0
    """Window that scale-in reads; its highest demand counts."""
    cooldown_out: Duration = 180.0
    """From one scale-out to the next. The latency guard has its own pace."""
    cooldown_in: Duration = 600.0
    """From the last change, out or in, to the next withdrawal; doubled, up to 8 times, by each
    withdrawal that turned out wrong."""
    dampening_in: Fraction = 0.5
    """Share of the surplus one scale-in takes; at least one instance of the sizing role."""
    max_step_out: PositiveFloat = 1.0
    """Largest scale-out in one step as a share of the present count; at least one."""
    backlog_horizon: Duration = 30.0
    """A backlog is to be worked off within this time."""
    observation: Duration = 300.0
    """Soft scale-in: withdrawn this long, watched, then drained; or reinstated at once."""
    freshness: Duration = 15.0
    """A reading older than this is unknown."""
    min_coverage: Fraction = 0.5
    """Share of instances heard below which nothing is decided but launches to the minimum."""
    guard: GuardSpec = GuardSpec()
    consent: ConsentSpec = ConsentSpec()

    @model_validator(mode="after")
    def _windows(self) -> Self:
        for name in ("window_out", "window_in", "backlog_horizon", "freshness"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0s")
        if self.window_in < self.window_out:
            raise ValueError(
                f"windowIn {self.window_in:g}s is shorter than windowOut {self.window_out:g}s"
            )
        return self


class PlacementSpec(DocumentModel):
    """Where prefill and decode of one step may stand to each other."""

    affinity: Literal["s1", "s2", "cluster"] = "s1"
    """The nearest domain they should share."""
    required: bool = False
    """False: the next wider domain when the wished one has no room. True: infeasible instead."""


class ModelSpec(DocumentModel):
    """What is served: by this, simulations and pressure tests find speeds; the laws read `target`."""

    name: str
    """As profile tables name it, e.g. Llama-3.1-8B."""
    weights: str = "bfloat16"
    """Type of the weights in those tables, e.g. bfloat16 or fp8."""


class ServiceSpec(DocumentModel):
    """A service: its roles, the ratio between them, the promise, and how it is scaled."""

    roles: dict[Role, RoleSpec]
    ratio: Ratio = RatioSpec(min=0.5, max=0.5)
    slo: SloSpec = SloSpec()
    model: ModelSpec | None = None
    """What is served, for simulations and pressure tests."""
    policy: PolicySpec = PolicySpec()
    placement: PlacementSpec = PlacementSpec()
    gate: GateSpec = GateSpec()
    drain: DrainSpec = DrainSpec()
    priority: int = 0
    """Higher is served first when GPUs are short."""
    max_gpus: PositiveInt | None = None
    """Budget over all roles. Bounds always win."""
    advisory: bool = False
    """Decide and explain, but send no command."""

    @model_validator(mode="after")
    def _roles(self) -> Self:
        given = set(self.roles)
        if given not in ({Role.PREFILL, Role.DECODE}, {Role.AGGREGATED}):
            names = ", ".join(sorted(given)) or "none"
            raise ValueError(f"roles must be prefill and decode, or aggregated alone; got {names}")
        if self.max_gpus is not None:
            floor = sum(r.min * r.gpus * r.ranks for r in self.roles.values())
            if floor > self.max_gpus:
                raise ValueError(f"maxGpus {self.max_gpus} is below the {floor} that `min` needs")
        return self

    @property
    def sizing_role(self) -> Role:
        """The role that demand sizes: decode, or aggregated."""
        return Role.DECODE if Role.DECODE in self.roles else Role.AGGREGATED


class Metadata(DocumentModel):
    """Names a document."""

    name: Name


class ServiceDocument(DocumentModel):
    """A whole YAML document of kind Service."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec
