"""The hosts that a fleet document means: names, network domains, GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from heteroscale_simulator.fleet.model import FleetSpec, NodePool


@dataclass(frozen=True, slots=True)
class Host:
    """A node with an agent on it."""

    name: str
    gpu_type: str
    gpus: int
    topology: Mapping[str, str]
    """Name of its domain by level: s0 (itself), s1, s2, logical_cluster."""


def hosts(fleet: FleetSpec) -> tuple[Host, ...]:
    """Return the fleet's hosts in the order of its pools, each pool's numbered from 1."""
    return tuple(host for pool in fleet.pools for host in _of_pool(pool))


def _of_pool(pool: NodePool) -> Iterator[Host]:
    width = len(str(pool.nodes))
    for index, domains in enumerate(_domains(pool)):
        name = f"{pool.name}-{index + 1:0{width}d}"
        yield Host(name, pool.gpu_type, pool.gpus_per_node, {"s0": name, **domains})


def _domains(pool: NodePool) -> Iterator[dict[str, str]]:
    """Yield the domains of each node of the pool in turn."""
    topology = pool.topology
    if topology.places:
        for place in topology.places:
            named = {"s1": place.s1, "s2": place.s2, "logical_cluster": place.logical_cluster}
            yield from (dict(named) for _ in range(place.nodes))
        return
    prefix = topology.name or pool.name
    for index in range(pool.nodes):
        s1 = index // topology.nodes_per_s1
        s2 = s1 // topology.s1_per_s2
        cluster = s2 // topology.s2_per_cluster
        yield {
            "s1": f"{prefix}-s1-{s1 + 1}",
            "s2": f"{prefix}-s2-{s2 + 1}",
            "logical_cluster": f"{prefix}-cluster-{cluster + 1}",
        }
