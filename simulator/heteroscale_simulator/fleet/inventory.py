"""A fleet's hosts as placement sees nodes, for commands that plan on a fleet's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from heteroscale_coordinator.core.placement import NodeView
from heteroscale_coordinator.core.rules import SubClusterRules
from heteroscale_simulator.fleet import hosts, load_fleet, views


def read_nodes(
    path: Path,
) -> tuple[str, Sequence[NodeView], Mapping[str, float], Mapping[str, SubClusterRules]]:
    """Return a fleet's name, its nodes, prices of a GPU-hour where the file has them, and sub-clusters.

    Those of its `rules` win over those of its pools, as in a simulation; the catalogue's are left out:
    the coordinator has none either. Every GPU that works is free.

    Raises:
        DocumentError: with file, line and field of everything that is wrong.
        OSError: the file cannot be read.

    """
    fleet = load_fleet(path)
    told = {p.gpu_type: p.price_per_gpu_hour for p in fleet.spec.pools if p.price_per_gpu_hour}
    rules = fleet.spec.rules
    prices = {**told, **rules.prices}
    return fleet.name, views(hosts(fleet.spec), ()), prices, rules.sub_clusters
