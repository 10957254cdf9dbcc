"""Which sub-clusters get nothing new, and why, for a scrape."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.core.topology import sub_cluster_of


def sub_cluster_metrics(
    agents: Iterable[Agent], services: Collection[Service], silent: Collection[str], now: float
) -> Iterator[Metric]:
    """Yield how many services each sub-cluster is left out for; nothing where there is but one."""
    nodes = (one for one in agents if one.inventory.gpus and not one.within)
    names = sorted({sub_cluster_of(one.inventory.topology) for one in nodes})
    if len(names) < 2:  # noqa: PLR2004 - one alone stands for the whole fleet
        return
    left_out = GaugeMetricFamily(
        "heteroscale_sub_cluster_left_out",
        "Services that get nothing new in a sub-cluster, by why.",
        labels=("sub_cluster", "reason"),
    )
    for name in names:
        breakers = (one.memory.stability.sub_clusters.get(name) for one in services)
        refusing = sum(b is not None and b.until is not None and now < b.until for b in breakers)
        left_out.add_metric((name, "silent"), len(services) if name in silent else 0)
        left_out.add_metric((name, "refusing"), refusing)
    yield left_out
