"""What placement is asked and what it answers: frozen values, nothing of how it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.taints import Taints
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts, Rank
from heteroscale_coordinator.core.placement.indices import Layout
from heteroscale_coordinator.core.spec import PlacementSpec, RoleSpec


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as placement may use it in this turn."""

    agent_id: str
    hostname: str
    topology: Mapping[str, str]
    """Domain's name by level (s1, s2 …); a level nobody named is missing."""
    gpu_types: Mapping[int, str]
    """GPU type by index, of all GPUs, free or not."""
    free: tuple[int, ...]
    """Indices of healthy GPUs that nothing holds or has been promised."""
    templates: frozenset[str]
    """Launch templates that the agent allows."""
    usable: bool = True
    why_not: str = ""
    """Why not usable: disconnected, avoided after a failed launch, cordoned."""
    closed: Mapping[int, str] = field(default_factory=dict)
    """GPUs that nothing of ours holds and that take nothing new, by index, and why: sick, cordoned,
    held by others. They are not among ``free``."""
    neighbourhoods: Mapping[int, int] = field(default_factory=dict)
    """NUMA node by GPU index, free or not; a GPU whose NUMA node nobody told is missing."""
    links: Mapping[int, int] = field(default_factory=dict)
    """NVLink group by GPU index, free or not; a GPU whose links nobody told is missing."""
    limping: frozenset[int] = frozenset()
    """GPUs of whose nearest RDMA ports some are down, and not all: such a GPU goes last among equals."""
    taints: Taints = ()
    """Taints that keep away whoever does not tolerate them."""

    @property
    def layout(self) -> Layout:
        """How its GPUs lie to each other."""
        return Layout(self.neighbourhoods, self.links, self.limping)


@dataclass(frozen=True, slots=True)
class Standing:
    """An instance of the service that holds GPUs already."""

    instance_id: str
    role: Role
    agent_ids: tuple[str, ...]
    """Agent of each rank, rank 0 first."""
    group: str = ""
    withdrawn: bool = False
    idle: float | None = None
    """Requests running + waiting, 0 is idle. None: unknown, taken for busy."""
    gpu_type: str = ""
    age: float = 0.0
    """Seconds since it was created."""
    cordoned: bool = False
    """It stands on a node or a GPU that an operator cordoned."""
    sick: str = ""
    """What is wrong with the GPUs or ports that it stands on, in words; empty: nothing is known."""
    warmth: float | None = None
    """How much its caches hold, 0 to 1: the higher of KV usage and recent share of prompt tokens that
    were cached, of those known. None: neither is; unknown is not cold."""
    gpus: int = 1
    """GPUs of each rank."""
    unwelcome: str = ""
    """The taint of its node that its service does not tolerate and that has it leave, in words."""


@dataclass(frozen=True, slots=True)
class SubCluster:
    """What one service is told of a sub-cluster beyond its nodes."""

    left_out: str = ""
    """Why nothing new may go there; empty: it may."""
    trial: str = ""
    """Why only one unit of a step may be tried there; empty: any step may go there."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Price of a GPU-hour there by GPU type; others cost what they cost elsewhere."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Most GPUs of a type there, of all services together."""
    quota: int | None = None
    """Most GPUs of this service there, of any type; None: no limit."""
    used: int = 0
    """GPUs there that instances of this service hold, or may hold."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A step to be placed: so many new instances of each role of one service."""

    service: str
    roles: Mapping[Role, RoleSpec]
    delta: Counts
    placement: PlacementSpec = field(default_factory=PlacementSpec)
    vendors: Mapping[str, str] = field(default_factory=dict)
    """Vendor by GPU type, as far as agents tell; unknown vendors keep nobody apart."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Price of a GPU-hour by GPU type."""
    sub_clusters: Mapping[str, SubCluster] = field(default_factory=dict)
    """What is told of sub-clusters, by name; of one that is not named, nothing is."""
    within: frozenset[str] | None = None
    """Sub-clusters in which the search may look; None: in all."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one new instance goes."""

    role: Role
    ranks: tuple[Rank, ...]
    """In order; each on an agent of its own, all on one GPU type."""
    group: str
    gpu_type: str


@dataclass(frozen=True, slots=True)
class Placed:
    """The whole step has a place."""

    spots: tuple[Spot, ...]
    reason: str
    affinity_met: str
    """The level at which every group holds together: s1, s2 or cluster."""
    rejected: tuple[str, ...] = ()
    """Candidates that were looked at and not taken, and why."""
    wishes_lost: tuple[int, int] = (0, 0)
    """GPUs on nodes whose taint says PreferNoSchedule; places lost in the roles' orders of GPU types,
    over all instances."""


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The step has no place as a whole, so no part of it is placed."""

    reasons: tuple[str, ...]
    """By level and domain, e.g. ``s1 minipod-3: 1 of 8 GPUs free of type H20, wanted 2 (decode)``."""


@dataclass(frozen=True, slots=True)
class Victims:
    """Which instances a scale-in takes, the first to go first, and why these."""

    instance_ids: tuple[str, ...]
    reason: str
