"""Room for something new, and how fragmented it is, for a scrape: of the fleet, by GPU type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from heteroscale_coordinator.core import instance as life
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.cordon import Closed
from heteroscale_coordinator.core.model import Instance
from heteroscale_coordinator.core.placement import fragments
from heteroscale_coordinator.core.state import Agent


def room_metrics(
    agents: Iterable[Agent], instances: Iterable[Instance], closed: Callable[[str], Closed]
) -> Iterator[Metric]:
    """Yield free GPUs by type, and the share of them that no whole node or S1 could use."""
    taken: defaultdict[str, set[int]] = defaultdict(set)
    for instance in instances:
        for rank in instance.ranks:
            if rank.state not in life.ENDED:
                taken[rank.agent_id].update(rank.gpu_indices)
    free = GaugeMetricFamily(
        "heteroscale_gpus_free", "GPUs that something new may take.", labels=("type",)
    )
    broken = GaugeMetricFamily(
        "heteroscale_gpus_free_fragmented",
        "Share of the free GPUs that no instance of a whole node, or of a whole S1, could use.",
        labels=("type", "whole"),
    )
    nodes = (sites.seen(a, closed(a.agent_id), taken.get(a.agent_id, ())) for a in agents)
    for kind, found in fragments(nodes).items():
        free.add_metric((kind,), found.free)
        for whole, share in (("node", found.of_nodes), ("s1", found.of_s1)):
            if share is not None:
                broken.add_metric((kind, whole), share)
    yield free
    yield broken
