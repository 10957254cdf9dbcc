"""What a user writes of a fleet (``kind: Fleet``): its nodes, how long things take, how it is seen.

Everything a simulation needs beside a service and a trace. Read strictly; times are seconds inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale.taints import TaintText
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import Name
from heteroscale_simulator.profiles import LinkProfile, TransferProfile

Share = Annotated[float, Field(ge=0, le=1)]
Z90 = 1.2815515655446004
"""The standard normal's 90th percentile."""


class Place(DocumentModel):
    """Some nodes of a pool in one S1, by name."""

    nodes: PositiveInt
    """How many."""
    s1: str
    """Name of the S1 (minipod). Pools that name the same one share it."""
    s2: str
    """Name of the S2 (bigpod) above it."""
    logical_cluster: str = "cluster-1"
    """Name of the logical cluster above that."""


class TopologySpec(DocumentModel):
    """Where the nodes of a pool stand: dealt out by number, or in `places` by name."""

    name: Name | None = None
    """First part of the domains' names; the pool's name when left out. Pools of one `name` share
    their domains, each filling them from the first one on: so S1s of mixed GPU types come about."""
    nodes_per_s1: PositiveInt = 8
    """Nodes of this pool below one S1 switch."""
    s1_per_s2: PositiveInt = 8
    """S1 below one S2 switch."""
    s2_per_cluster: PositiveInt = 8
    """S2 in one logical cluster."""
    places: tuple[Place, ...] = ()
    """By name instead: together exactly the nodes of the pool."""


class NodePool(DocumentModel):
    """Nodes that are alike."""

    name: Name
    """First part of the nodes' names."""
    nodes: PositiveInt
    """How many."""
    gpu_type: Annotated[str, Field(min_length=1)]
    """As services and profiles name it, e.g. H20."""
    gpus_per_node: PositiveInt = 8
    """GPUs of each node."""
    price_per_gpu_hour: NonNegativeFloat | None = None
    """What one GPU costs an hour, in any currency; pools of one type agree. Left out: the catalogue's."""
    topology: TopologySpec = TopologySpec()
    """Where they stand in the network."""
    numa_nodes: PositiveInt | None = None
    """NUMA nodes of each node, its GPUs dealt out evenly, the first to the first. Left out: unknown."""
    nvlink_groups: PositiveInt | None = None
    """Groups of GPUs of each node that reach each other by NVLink, likewise: 1 with NVSwitch, as many as
    GPUs without NVLink, half as many with bridges between pairs. Left out: unknown."""
    taints: tuple[TaintText, ...] = ()
    """What keeps services away that do not tolerate it, e.g. [dedicated=train:NoSchedule]; see
    `placement.tolerations` of a service."""

    def hosts(self) -> Iterator[str]:
        """Yield the names of its nodes, numbered from 1."""
        width = len(str(self.nodes))
        return (f"{self.name}-{index + 1:0{width}d}" for index in range(self.nodes))

    @model_validator(mode="after")
    def _placed(self) -> Self:
        places = self.topology.places
        there = sum(place.nodes for place in places)
        if places and there != self.nodes:
            raise ValueError(f"places hold {there} nodes, the pool has {self.nodes}")
        for name, parts in (("numaNodes", self.numa_nodes), ("nvlinkGroups", self.nvlink_groups)):
            if parts is not None and self.gpus_per_node % parts:
                raise ValueError(
                    f"{name} {parts} do not divide the {self.gpus_per_node} GPUs of a node"
                )
        return self


class ClusterSpec(DocumentModel):
    """Where a logical cluster stands."""

    physical_cluster: Name
    """Name of the physical cluster (the site) that it is a part of."""
    vdc: Name | None = None
    """Name of the virtual data centre above that; a physical cluster is in one."""


class FaultSpec(DocumentModel):
    """What of one host does not work, from the beginning to the end."""

    host: Name
    """Its name: the pool's and its number, e.g. h20-07 of a pool of 10 to 99 nodes."""
    down: bool = False
    """The whole host: nothing runs there."""
    gpus: tuple[NonNegativeInt, ...] = ()
    """Indices of GPUs that do not work, from 0."""
    links: tuple[NonNegativeInt, ...] = ()
    """Indices of RDMA ports without a link, from 0. Such a host takes nothing new."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.down or self.gpus or self.links):
            raise ValueError(f"nothing of {self.host} is at fault; write down, gpus or links")
        return self


class StartupSpec(DocumentModel):
    """From launch until the engine answers: lognormal with this median and 90th percentile."""

    median: Duration = 60.0
    """Half of the launches are ready by then."""
    p90: Annotated[Duration, Field(gt=0)] | None = None
    """Nine of ten are. Left out, or equal to the median: all take the median."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p90 is not None and self.p90 < self.median:
            raise ValueError(f"p90 {self.p90:g}s is below the median {self.median:g}s")
        if self.p90 and not self.median:
            raise ValueError("with a median of 0 every launch is ready at once: leave p90 out")
        return self

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm; 0 when fixed."""
        return 0.0 if self.p90 is None else math.log(self.p90 / self.median) / Z90

    def seconds(self, normal: float) -> float:
        """Return the start-up that belongs to a standard normal deviate."""
        return self.median * math.exp(self.sigma * normal)


class WarmUpSpec(DocumentModel):
    """A fresh engine is slow for a while: graphs, caches and connections are still being made."""

    duration: Duration = 0.0
    """So long after it first answers."""
    speed: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of its full speed meanwhile."""


class GateDelays(DocumentModel):
    """How long routers take to do what an agent asks of them."""

    opening: Duration = 2.0
    """Until traffic reaches a new or reinstated instance."""
    closing: Duration = 1.0
    """Until none reaches one that is withdrawn; the drain's settle time begins after it."""


class RoleSwitchSpec(DocumentModel):
    """Engines that change between prefill and decode while they run, as SGLang's can."""

    settle: Duration = 5.0
    """After the gate is closed: requests on their way arrive; then it must be empty."""
    takes: Duration = 10.0
    """From the asking of an empty engine until it answers in its new role: graphs are captured."""


class TelemetrySpec(DocumentModel):
    """What stands between an engine's metrics and whoever decides. How often: `rules`."""

    delay: Duration = 1.0
    """Age of the newest values an agent has when it reports; for rivals, of a scrape."""
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Relative standard deviation of gauges, and of the rise of counters since they were last told.
    Zero stays zero."""
    missing: Share = 0.0
    """Share of scrapes that fail, each on its own."""


class NetworkSpec(DocumentModel):
    """KV transfer by distance; what is left out is the profile's."""

    s0: LinkProfile | None = None
    """Inside a node."""
    s1: LinkProfile | None = None
    """Below one S1 switch."""
    s2: LinkProfile | None = None
    """Below one S2 switch."""
    cluster: LinkProfile | None = None
    """Beyond a shared S2."""

    def over(self, profile: TransferProfile) -> TransferProfile:
        """Return ``profile`` with the links that are given here in place of its own."""
        given = {n: link for n in ("s0", "s1", "s2", "cluster") if (link := getattr(self, n))}
        return profile.model_copy(update=given)


class FleetSpec(DocumentModel):
    """Nodes, what happens on them, and how it is seen."""

    pools: Annotated[tuple[NodePool, ...], Field(min_length=1)]
    """The nodes."""
    clusters: dict[str, ClusterSpec] = {}
    """What is above a logical cluster, by its name. Left out: nothing that is known."""
    faults: tuple[FaultSpec, ...] = ()
    """What does not work, each host once."""
    startup: StartupSpec = StartupSpec()
    """Of every GPU type that `startupByGpu` does not name."""
    startup_by_gpu: dict[str, StartupSpec] = {}
    """By GPU type: large weights load longer on slow disks."""
    launch_failures: Share = 0.0
    """Share of launches that end before the engine ever answers."""
    warm_up: WarmUpSpec = WarmUpSpec()
    """How slow a fresh engine is."""
    speed_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Relative standard deviation of speed from engine to engine."""
    gate: GateDelays = GateDelays()
    """How fast routers follow."""
    role_switch: RoleSwitchSpec | None = None
    """What a role switch takes. Left out: no engine can, and none is asked."""
    stop: Duration = 2.0
    """From TERM to an empty engine until its process is gone and the GPUs are free."""
    command_delay: Annotated[Duration, Field(gt=0)] = 1.0
    """From a decision until its agent or kubelet acts; rounded up to whole seconds."""
    telemetry: TelemetrySpec = TelemetrySpec()
    """How engines are seen."""
    rules: Rules = Rules()
    """The coordinator's pace over this fleet, as in a document of kind Coordinator."""
    network: NetworkSpec = NetworkSpec()
    """How fast KV travels."""
    profiles: str | None = None
    """Folder with tables of one's own speeds, from where this file is. Left out: the catalogue."""

    @model_validator(mode="after")
    def _pools(self) -> Self:
        names = [pool.name for pool in self.pools]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"pools named alike: {', '.join(sorted(twice))}")
        _one_price(self.pools)
        _one_tree(self.pools)
        types = sorted({pool.gpu_type for pool in self.pools})
        for name in self.startup_by_gpu:
            if name not in types:
                raise ValueError(f"startupByGpu names {name}, the pools have {', '.join(types)}")
        return self

    @model_validator(mode="after")
    def _faults(self) -> Self:
        gpus = {name: pool.gpus_per_node for pool in self.pools for name in pool.hosts()}
        seen: set[str] = set()
        for fault in self.faults:
            if fault.host not in gpus:
                raise ValueError(f"faults name {fault.host}, no host of the pools")
            if fault.host in seen:
                raise ValueError(f"faults name {fault.host} twice; write one")
            seen.add(fault.host)
            if max(fault.gpus, default=0) >= gpus[fault.host]:
                have = gpus[fault.host] - 1
                raise ValueError(
                    f"faults name GPU {max(fault.gpus)} of {fault.host}, 0 to {have} are there"
                )
        return self

    @model_validator(mode="after")
    def _sites(self) -> Self:
        above: dict[str, str | None] = {}
        for name, cluster in self.clusters.items():
            site = cluster.physical_cluster
            if above.setdefault(site, cluster.vdc) != cluster.vdc:
                raise ValueError(f"cluster {name}: {site} is in another vdc elsewhere; write one")
        return self

    def startup_of(self, gpu_type: str) -> StartupSpec:
        """Return the start-up of a GPU type."""
        return self.startup_by_gpu.get(gpu_type, self.startup)

    @property
    def gpu_types(self) -> dict[str, int]:
        """GPUs by type."""
        counts: dict[str, int] = {}
        for pool in self.pools:
            counts[pool.gpu_type] = counts.get(pool.gpu_type, 0) + pool.nodes * pool.gpus_per_node
        return counts


class FleetMetadata(DocumentModel):
    """Names a fleet."""

    name: Name


class FleetDocument(DocumentModel):
    """A whole YAML document of kind Fleet."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Fleet"]
    metadata: FleetMetadata
    spec: FleetSpec


def _one_price(pools: tuple[NodePool, ...]) -> None:
    prices: dict[str, float] = {}
    for pool in pools:
        price = pool.price_per_gpu_hour
        if price is not None and prices.setdefault(pool.gpu_type, price) != price:
            raise ValueError(f"pools of {pool.gpu_type} have several prices; write one")


def _one_tree(pools: tuple[NodePool, ...]) -> None:
    """Refuse pools that share domains and disagree on which lie above them."""
    above: dict[str, tuple[int, int]] = {}
    for pool in pools:
        topology = pool.topology
        if topology.places:
            continue
        name, own = topology.name or pool.name, (topology.s1_per_s2, topology.s2_per_cluster)
        if above.setdefault(name, own) != own:
            raise ValueError(
                f"pools of topology {name} differ in s1PerS2 or s2PerCluster; write the same"
            )
