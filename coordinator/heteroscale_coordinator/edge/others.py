"""Says aloud what others who scale a service are asked for, and when they do not follow.

From what is committed, whoever it is that reads the counts: KEDA, or an HPA by way of Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.external import late
from heteroscale_coordinator.edge.feed import FeedLaggedError
from heteroscale_coordinator.edge.ports import Loop

log = structlog.get_logger("heteroscale.others")

UNFOLLOWED = "not followed"
"""The input of a decision that says who is late."""


class Teller:
    """Says each change once."""

    def __init__(self) -> None:
        self._generations: dict[str, int] = {}
        self._late: set[str] = set()

    def tell(self, changes: Changes) -> None:
        """Log new counts, who began not to follow them, and who does again."""
        for name, service in changes.services.items():
            if service is None or not service.spec.external:
                self._generations.pop(name, None)
                self._late.discard(name)
                continue
            known = service.memory.external
            if known.generation > self._generations.get(name, 0):
                counts = {role.value: count for role, count in known.counts.items()}
                log.info("asked for", service=name, generation=known.generation, **counts)
            self._generations[name] = known.generation
        for decision in changes.decisions:
            why = decision.inputs.get(UNFOLLOWED)
            if why and decision.service not in self._late:
                self._late.add(decision.service)
                log.warning("not followed", service=decision.service, why=why)
            elif not why and decision.service in self._late:
                self._late.discard(decision.service)
                log.info("followed again", service=decision.service)


async def tell_others(loop: Loop) -> None:
    """Tell until the loop stops."""
    teller = Teller()
    while True:
        async with aclosing(loop.subscribe()) as feed:
            try:
                async for changes, _ in feed:
                    teller.tell(changes)
            except FeedLaggedError:
                continue
            else:
                return


class AskedCollector(Collector):
    """Gauges of what is asked for; may run in a thread: it reads frozen values."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def describe(self) -> list[Metric]:
        """Return nothing: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield counts, generation, and who is late; what is not asked yet has no series."""
        asked = GaugeMetricFamily(
            "heteroscale_asked_instances",
            "Instances that others who scale a service are asked for.",
            labels=("service", "role"),
        )
        generations = GaugeMetricFamily(
            "heteroscale_asked_generation",
            "Of the counts asked for: one generation is one decision on all roles.",
            labels=("service",),
        )
        unfollowed = GaugeMetricFamily(
            "heteroscale_unfollowed",
            "1: another number stands for longer than actuation.followWithin.",
            labels=("service", "role"),
        )
        now = self._loop.status().now
        for service in list(self._loop.state.services.values()):
            known = service.memory.external
            if not (service.spec.external and known.counts):
                continue
            behind = late(known, service.spec.actuation.follow_within, now)
            generations.add_metric((service.name,), known.generation)
            for role, count in known.counts.items():
                asked.add_metric((service.name, role.value), count)
                unfollowed.add_metric((service.name, role.value), role in behind)
        return iter((asked, generations, unfollowed))
