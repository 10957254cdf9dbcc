"""The fleet's own pace: what a user writes for the coordinator, and what the core reads (ADR 2)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Label

Positive = Annotated[Duration, Field(gt=0)]


class SubClusterRules(DocumentModel):
    """What holds in one sub-cluster. Quotas are hard, and count all that holds GPUs there."""

    prices: dict[str, PositiveFloat] = {}
    """Price of a GPU-hour there by GPU type; types that are not named cost what `rules.prices` says."""
    quotas: dict[str, NonNegativeInt] = {}
    """Most GPUs there by GPU type, of all services together, e.g. {H20: 64}."""
    service_quotas: dict[str, NonNegativeInt] = {}
    """Most GPUs there by service, of any type, e.g. {chat: 32}."""


class Rules(DocumentModel):
    """The fleet's own pace, the same for all services."""

    tick: Positive = 5.0
    """Every service is evaluated once a tick."""
    report_interval: Positive = 5.0
    """How often agents report."""
    silent_after: Positive = 15.0
    """An agent unheard this long: its instances are UNKNOWN, still counted."""
    lost_after: Positive = 120.0
    """Unheard this long: LOST, and replaced. Shorter replaces what only paused."""
    partition_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """More than this share of agents silent at once is a partition: nothing is replaced."""
    cover_for: Duration = 60.0
    """A new coordinator waits so long to hear a service's instances; then it only launches."""
    command_deadline: Positive = 60.0
    """A command that reaches its agent later is refused."""
    launch_backoff: Positive = 10.0
    """After a failed launch the next waits so long, doubling with each in a row, to 30 times it."""
    forget_after: Positive = 3600.0
    """Ended instances and commands are kept so long."""
    prices: dict[str, PositiveFloat] = {}
    """Price of a GPU-hour by GPU type, in any one currency, e.g. {H20: 2.6, L20: 1.1}: for roles that
    take the cheapest type for their work."""

    sub_clusters: dict[Label, SubClusterRules] = {}
    """Prices and quotas of sub-clusters, by the `physical_cluster` that their nodes name."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.silent_after <= self.report_interval:
            raise ValueError("silentAfter must be longer than reportInterval")
        if self.lost_after < self.silent_after:
            raise ValueError("lostAfter is shorter than silentAfter")
        return self
