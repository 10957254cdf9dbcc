"""What a person asks of ``advise``: whose history, how long, judged by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec


@dataclass(frozen=True)
class Wishes:
    """Everything that was asked for, checked."""

    service: str
    prometheus: PrometheusSpec
    since: float
    """Seconds of history."""
    end: float
    """Its end, in seconds since 1970."""
    step: float
    """Seconds of a slot."""
    spec: ServiceSpec | None = None
    """The policy of a service file; None: made from what is seen."""
    ttft: float | None = None
    """SLO of the mean time to first token, in seconds."""
    tbt: float | None = None
    """SLO of the mean time between tokens, in seconds."""
    gpus: Mapping[Role, int] = field(default_factory=dict)
    """GPUs of one instance."""
    gpu_types: Mapping[Role, str] = field(default_factory=dict)
    aggregated: bool = False
    """Every instance does prefill and decode."""
    startup: float | None = None
    """Seconds from a launch until it serves; None: the policy's own assumption."""
