"""The hosts that a fleet document means: names, network domains, GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from heteroscale.taints import Taints, parse_taint
from heteroscale_coordinator.core.placement import NodeView
from heteroscale_simulator.fleet.model import ClusterSpec, FaultSpec, FleetSpec, NodePool


@dataclass(frozen=True, slots=True)
class Host:
    """A node with an agent on it."""

    name: str
    gpu_type: str
    gpus: int
    topology: Mapping[str, str]
    """Name of its domain by level: s0 (itself), s1, s2, logical_cluster; above that where it is told."""
    broken: frozenset[int] = frozenset()
    """Indices of GPUs that do not work."""
    fault: str = ""
    """Why nothing may start there: it is down, or a link is. Empty: nothing of that kind."""
    numa_nodes: int | None = None
    """How many, its GPUs dealt out evenly; None: unknown."""
    nvlink_groups: int | None = None
    """How many, its GPUs dealt out evenly; None: unknown."""
    taints: Taints = ()

    @property
    def sound(self) -> tuple[int, ...]:
        """Indices of the GPUs that an instance may start on."""
        return () if self.fault else tuple(i for i in range(self.gpus) if i not in self.broken)

    @property
    def neighbourhoods(self) -> Mapping[int, int]:
        """NUMA node by GPU; empty: unknown."""
        return _dealt(self.gpus, self.numa_nodes)

    @property
    def links(self) -> Mapping[int, int]:
        """NVLink group by GPU; empty: unknown."""
        return _dealt(self.gpus, self.nvlink_groups)

    def view(self, free: Iterable[int], templates: frozenset[str]) -> NodeView:
        """Return it as placement sees it, with these GPUs free of what it has."""
        unsound = sorted({*range(self.gpus)}.difference(self.sound))
        return NodeView(
            agent_id=self.name,
            hostname=self.name,
            topology=self.topology,
            gpu_types=dict.fromkeys(range(self.gpus), self.gpu_type),
            free=tuple(sorted(free)),
            templates=templates,
            usable=not self.fault,
            why_not=self.fault,
            neighbourhoods=self.neighbourhoods,
            links=self.links,
            taints=self.taints,
            closed=dict.fromkeys(unsound, self.fault or "does not work"),
        )


@lru_cache(maxsize=1024)
def _dealt(gpus: int, parts: int | None) -> Mapping[int, int]:
    """Return the part of each GPU; hosts that are built alike share one answer."""
    return {} if parts is None else {index: index * parts // gpus for index in range(gpus)}


def hosts(fleet: FleetSpec) -> tuple[Host, ...]:
    """Return the fleet's hosts in the order of its pools, each pool's numbered from 1."""
    above = {name: _above(cluster) for name, cluster in fleet.clusters.items()}
    faults = {fault.host: fault for fault in fleet.faults}
    return tuple(
        _host(pool, name, {**domains, **above.get(domains["logical_cluster"], {})}, faults)
        for pool in fleet.pools
        for name, domains in zip(pool.hosts(), _domains(pool), strict=True)
    )


def views(there: Iterable[Host], templates: Iterable[str]) -> list[NodeView]:
    """Return an empty fleet as placement sees it; every host allows these launch templates."""
    allowed = frozenset(templates)
    return [host.view(host.sound, allowed) for host in there]


def _host(
    pool: NodePool, name: str, domains: Mapping[str, str], faults: Mapping[str, FaultSpec]
) -> Host:
    fault = faults.get(name)
    ports = ", ".join(map(str, fault.links)) if fault is not None else ""
    why = f"no link at port {ports}" if ports else ""
    return Host(
        name,
        pool.gpu_type,
        pool.gpus_per_node,
        {"s0": name, **domains},
        frozenset(fault.gpus if fault is not None else ()),
        "down" if fault is not None and fault.down else why,
        pool.numa_nodes,
        pool.nvlink_groups,
        tuple(sorted(set(map(parse_taint, pool.taints)))),
    )


def _above(cluster: ClusterSpec) -> dict[str, str]:
    named = {"physical_cluster": cluster.physical_cluster, "vdc": cluster.vdc}
    return {level: name for level, name in named.items() if name}


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
