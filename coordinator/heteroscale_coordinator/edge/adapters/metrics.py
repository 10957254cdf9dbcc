"""What a scrape is told of the clusters."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from heteroscale_coordinator.edge.adapters.drivers import Drivers


class ClusterCollector(Collector):
    """Reads the drivers at every scrape."""

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers

    def describe(self) -> list[Metric]:
        """Return nothing: names come with the values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families as of now; none where there is no cluster."""
        every = list(self._drivers)
        if not every:
            return
        up = GaugeMetricFamily(
            "heteroscale_cluster_up",
            "1: the cluster's scheduler answers, and what it says is believed.",
            labels=("cluster",),
        )
        notes = GaugeMetricFamily(
            "heteroscale_cluster_notes",
            "Orphans, foreign edits and the like; the log tells each.",
            labels=("cluster",),
        )
        calls = CounterMetricFamily(
            "heteroscale_cluster_calls",
            "Calls to the cluster's scheduler, by what became of them.",
            labels=("cluster", "call", "outcome"),
        )
        for one in every:
            up.add_metric((one.name,), not one.trouble)
            notes.add_metric((one.name,), len(one.sight.notes))
            for (call, outcome), number in sorted(one.caller.calls.items()):
                calls.add_metric((one.name, call, outcome), number)
        yield from (up, notes, calls)
