"""A service: its parts put together, and the document around it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import split
from heteroscale_coordinator.core.spec.actuation import ActuationSpec
from heteroscale_coordinator.core.spec.gate import DrainSpec, GateSpec
from heteroscale_coordinator.core.spec.latency import SloSpec
from heteroscale_coordinator.core.spec.names import Name
from heteroscale_coordinator.core.spec.placement import PlacementSpec
from heteroscale_coordinator.core.spec.policy import PolicySpec
from heteroscale_coordinator.core.spec.ratio import Ratio, RatioSpec
from heteroscale_coordinator.core.spec.renewal import RenewalSpec
from heteroscale_coordinator.core.spec.roles import RoleSpec
from heteroscale_coordinator.core.spec.source import FRESHNESS, SourceSpec


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
    inner_ratio: Ratio | None = None
    """Attention:ffn such as 2:1, or a band; with roles `attention`, `ffn` and `decode`, a prefill that is
    split (disaggregated MoE). `ratio` then counts prefill in attention instances. Both hold at once."""
    slo: SloSpec = SloSpec()
    model: ModelSpec | None = None
    """What is served, for simulations and pressure tests."""
    policy: PolicySpec = PolicySpec()
    placement: PlacementSpec = PlacementSpec()
    gate: GateSpec = GateSpec()
    drain: DrainSpec = DrainSpec()
    renewal: RenewalSpec = RenewalSpec()
    """What is done about instances that a scheduler ends, as Slurm does at a time limit."""
    priority: int = 0
    """Higher is served first when GPUs are short."""
    max_gpus: PositiveInt | None = None
    """Budget over all roles. Bounds always win."""
    advisory: bool = False
    """Decide and explain, but send no command."""
    actuation: ActuationSpec = ActuationSpec()
    """Who starts and stops instances: the coordinator, or KEDA or an HPA by its counts."""
    signals: SourceSpec = SourceSpec()
    """Where the engines' signals come from: agents, or an existing Prometheus."""

    @model_validator(mode="after")
    def _roles(self) -> Self:
        given = set(self.roles)
        if given not in ({Role.PREFILL, Role.DECODE}, {Role.AGGREGATED}, split.ROLES):
            names = ", ".join(sorted(given)) or "none"
            raise ValueError(
                "roles must be prefill and decode, or aggregated alone, or attention, ffn and decode "
                f"where prefill is split; got {names}"
            )
        given |= {Role.PREFILL} if self.split else set()
        for one in self.policy.signals:
            if one.role not in given:
                raise ValueError(
                    f"policy.signals: {one.signal} is read on {one.role}, which is no role of this "
                    "service"
                )
        if self.policy.driver == "latency" and not (self.slo.ttft or self.slo.tbt):
            raise ValueError("policy.driver: latency needs a promise, `slo.ttft` or `slo.tbt`")
        if self.policy.driver == "latency" and not self.policy.guard.tiers:
            raise ValueError(
                "policy.driver: latency needs `guard.tiers`, e.g. [{breach: 1.1, step: 0.1}]"
            )
        if self.max_gpus is not None:
            floor = sum(r.min * r.gpus * r.ranks for r in self.roles.values())
            if floor > self.max_gpus:
                raise ValueError(f"maxGpus {self.max_gpus} is below the {floor} that `min` needs")
        return self

    @model_validator(mode="after")
    def _launched_by(self) -> Self:
        """Ask for what is launched, where it is the coordinator that launches."""
        bare = [role.value for role, rules in self.roles.items() if not rules.template]
        if bare and not self.external:
            raise ValueError(
                f"roles.{bare[0]}.template is missing: name the launch template of the agents; or write "
                "`actuation: {by: external}`, if others start and stop the instances"
            )
        return self

    @model_validator(mode="after")
    def _scraped(self) -> Self:
        """Let readings from a Prometheus be as old as its scrapes are apart, unless it is said."""
        strangers = self.signals.roles.keys() - self.roles.keys()
        if strangers:
            raise ValueError(
                f"signals.roles: {', '.join(sorted(strangers))} is no role of this service"
            )
        if self.measured_by_prometheus and "freshness" not in self.policy.model_fields_set:
            policy = self.policy.model_copy(update={"freshness": FRESHNESS})
            object.__setattr__(self, "policy", policy)  # frozen from now on
        return self

    @model_validator(mode="after")
    def _split(self) -> Self:
        split.check(self.roles, self.inner_ratio, self.policy)
        return self

    @model_validator(mode="after")
    def _velocity(self) -> Self:
        if self.policy.velocity is not None and Role.AGGREGATED in self.roles:
            raise ValueError("policy.velocity is for prefill and decode apart; leave it out")
        return self

    @model_validator(mode="after")
    def _schedule(self) -> Self:
        if self.policy.schedule is not None:
            self.policy.schedule.check(self.roles, self.ratio, self.max_gpus)
        return self

    @property
    def learning(self) -> frozenset[Role]:
        """The roles whose target is learned: the service only advises while there are any."""
        return frozenset(role for role, rules in self.roles.items() if rules.target == "learn")

    @property
    def watched(self) -> bool:
        """Whether it is decided, explained, and not acted on: advisory, or a target is being learned."""
        return self.advisory or bool(self.learning)

    @property
    def external(self) -> bool:
        """Whether others start and stop its instances, by the counts that they are asked for."""
        return self.actuation.by == "external"

    @property
    def measured_by_prometheus(self) -> bool:
        """Whether its engines' signals are read from a Prometheus, and from nowhere else."""
        return self.signals.source == "prometheus"

    @property
    def hands_off(self) -> bool:
        """Whether no command of ours touches its instances."""
        return self.watched or self.external

    @property
    def split(self) -> bool:
        """Whether its prefill is split into attention and ffn."""
        return Role.FFN in self.roles

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

    @model_validator(mode="after")
    def _means_its_ratio(self) -> Self:
        """Refuse what is written and would change nothing. What is stored names the default too."""
        if Role.AGGREGATED in self.spec.roles and "ratio" in self.spec.model_fields_set:
            raise ValueError(
                "spec.ratio is prefill:decode, and the only role of this service is aggregated: leave it "
                "out"
            )
        return self
