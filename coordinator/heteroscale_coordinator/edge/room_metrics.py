"""Room for something new, and how fragmented it is, for a scrape: of the fleet, by GPU type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from heteroscale_coordinator.core.placement import Fragments


def room_metrics(fragments: Mapping[str, Fragments]) -> Iterator[Metric]:
    """Yield free GPUs by type, and the share of them that no whole node or S1 could use."""
    free = GaugeMetricFamily(
        "heteroscale_gpus_free", "GPUs that something new may take.", labels=("type",)
    )
    broken = GaugeMetricFamily(
        "heteroscale_gpus_free_fragmented",
        "Share of the free GPUs that no instance of a whole node, or of a whole S1, could use.",
        labels=("type", "whole"),
    )
    for kind, found in fragments.items():
        free.add_metric((kind,), found.free)
        for whole, share in (("node", found.of_nodes), ("s1", found.of_s1)):
            if share is not None:
                broken.add_metric((kind, whole), share)
    yield free
    yield broken
