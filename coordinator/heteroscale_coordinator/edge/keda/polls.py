"""Who asked, when, and what was answered: for logs and metrics. Bounded, whatever is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale.keda import externalscaler_pb2 as pb
from heteroscale_coordinator.edge.guard import words
from heteroscale_coordinator.edge.keda.trigger import Trigger
from heteroscale_coordinator.edge.ports import Loop

log = structlog.get_logger("heteroscale.keda")

RIVAL_S = 300.0
"""Two ScaledObjects that asked for one role within so long move the same counts."""
REMEMBERED = 1_000
"""Refused ScaledObjects that are remembered, so that each is said once."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Poll:
    """The last question for a role."""

    by: str
    """Namespace and name of the ScaledObject."""
    at: float


class Polls(Collector):
    """The last poll of each role, and what was refused to whom."""

    def __init__(self, loop: Loop, registry: CollectorRegistry) -> None:
        self.streams = 0
        self._loop = loop
        self._last: dict[tuple[str, str], Poll] = {}
        self._rivals: set[tuple[str, str]] = set()
        self._refused: dict[str, str] = {}
        self._calls = Counter(
            "heteroscale_keda_calls",
            "Calls of KEDA by method and gRPC code.",
            ("method", "code"),
            registry=registry,
        )
        registry.register(self)

    def counted(self, method: str, code: str) -> None:
        """Count a call that ended."""
        self._calls.labels(method, code).inc()

    def answered(self, ref: pb.ScaledObjectRef, trigger: Trigger) -> None:
        """Note a poll; a new asker is said, and a second one of the same role is warned of."""
        key, by = (trigger.service, trigger.role.value), _name(ref)
        now, before = self._loop.status().now, self._last.get((trigger.service, trigger.role.value))
        self._refused.pop(by, None)
        self._last[key] = Poll(by, now)
        if before is None or now - before.at > RIVAL_S:
            self._rivals.discard(key)
            log.info("keda asks", by=by, service=trigger.service, role=trigger.role.value)
        elif before.by != by and key not in self._rivals:
            self._rivals.add(key)
            why = (
                "two ScaledObjects ask for one role: both move by the same count, so twice as much"
            )
            log.warning("keda rivals", by=by, other=before.by, service=trigger.service, why=why)

    def refused(self, ref: pb.ScaledObjectRef, why: str) -> None:
        """Say a refusal, once for each asker as long as it is the same, numbers aside."""
        by, kind = _name(ref), _DIGITS.sub("#", why)
        if self._refused.get(by) != kind:
            if len(self._refused) >= REMEMBERED:
                self._refused.pop(next(iter(self._refused)))
            self._refused[by] = kind
            log.warning("keda refused", by=by, why=why)

    def describe(self) -> list[Metric]:
        """Return nothing: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield how long ago each role was asked for, of services that are there, and the streams."""
        ages = GaugeMetricFamily(
            "heteroscale_keda_poll_age_seconds",
            "Since KEDA last asked for a role.",
            labels=("service", "role"),
        )
        now, services = self._loop.status().now, self._loop.state.services
        for (service, role), poll in list(self._last.items()):
            if service in services:
                ages.add_metric((service, role), max(0.0, now - poll.at))
        yield ages
        yield GaugeMetricFamily("heteroscale_keda_streams", "Open streams.", value=self.streams)


def _name(ref: pb.ScaledObjectRef) -> str:
    return f"{words(ref.namespace) or '?'}/{words(ref.name) or '?'}"
