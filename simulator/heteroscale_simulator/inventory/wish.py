"""What an inventory is made from: counts, sizes of switches, shares of the mixed and the broken."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

USUAL = 8
"""GPUs of a node, unless it is said."""


MOST_NODES = 200_000
"""Twenty times what one coordinator is built for: a typing error ends at once, not after hours."""


class WishError(ValueError):
    """An inventory that cannot be; the text says which option, and what would be right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes that are alike."""

    gpu_type: str
    nodes: int
    gpus: int = USUAL
    """GPUs of each node."""

    @property
    def pool(self) -> str:
        """Name of its pool, from which its hosts are named."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.gpu_type.lower()).strip("-")
        return plain if self.gpus == USUAL else f"{plain}-{self.gpus}g"


@dataclass(frozen=True, slots=True)
class Wish:
    """An inventory to be made. ``WishError`` where it contradicts itself."""

    kinds: tuple[Kind, ...]
    name: str = "made"
    ports: int = 16
    """Nodes that one S1 switch holds."""
    empty_ports: float = 0.05
    """Share of those ports without a node."""
    s1_per_s2: int = 16
    s2_per_cluster: int = 4
    clusters_per_site: int = 2
    """Logical clusters in one physical cluster."""
    sites_per_vdc: int = 2
    """Physical clusters in one VDC."""
    mixed_s1: float = 0.05
    """Share of S1 domains with two GPU types: the high class."""
    mixed_s2: float = 0.25
    """Share of S2 domains with two GPU types: those S1s are in them, their others are medium class."""
    down: float = 0.01
    """Share of nodes that are down."""
    broken_gpus: float = 0.002
    """Share of the other nodes' GPUs that do not work."""
    links_down: float = 0.001
    """Share of their RDMA ports without a link."""
    links: int = 8
    """RDMA ports of a node."""
    numa_nodes: int = 2
    """NUMA nodes of a node, where they divide its GPUs; 0: nothing is told of them."""
    nvlink: dict[str, int] = field(default_factory=dict)
    """Groups of a node's GPUs that reach each other by NVLink, by type; left out, nothing is told."""
    prices: dict[str, float] = field(default_factory=dict)
    """Of a GPU-hour by type; where it is left out, the catalogue's."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        self._check_kinds()
        if self.nodes > MOST_NODES:
            raise WishError(f"--nodes: {self.nodes} of them, at most {MOST_NODES} wanted")
        for name in ("ports", "s1_per_s2", "s2_per_cluster", "clusters_per_site", "sites_per_vdc"):
            if getattr(self, name) < 1:
                raise WishError(f"{_option(name)}: at least 1 wanted")
        for name in ("mixed_s1", "mixed_s2", "down", "broken_gpus", "links_down"):
            if not 0 <= getattr(self, name) <= 1:
                raise WishError(f"{_option(name)}: a share from 0 to 1 wanted")
        if not 0 <= self.empty_ports < 1:
            raise WishError("--empty-ports: a share from 0 to less than 1 wanted")
        if self.s1s_mixed > self.s2s_mixed * self.s1_per_s2:
            least = math.ceil(self.s1s_mixed / self.s1_per_s2) / self.s2s
            raise WishError(
                f"--mixed-s1 {self.mixed_s1:g}: they lie in mixed S2s, of which there are too few; "
                f"write --mixed-s2 {math.ceil(100 * least) / 100:g} or more"
            )
        if self.numa_nodes < 0:
            raise WishError("--numa-nodes: 0 or more wanted")
        if self.s1s_mixed and self.ports == 1:
            raise WishError("--mixed-s1: an S1 of one port cannot be mixed")

    def _check_kinds(self) -> None:
        if not self.kinds:
            raise WishError("--nodes: no nodes; write e.g. --nodes H20=480,H100=240")
        seen: set[str] = set()
        for kind in self.kinds:
            if kind.nodes < 1 or kind.gpus < 1:
                raise WishError(f"--nodes {kind.gpu_type}: at least 1 node with 1 GPU wanted")
            if not re.search(r"[a-z0-9]", kind.gpu_type.lower()):
                raise WishError(f"--nodes {kind.gpu_type!r}: a GPU type has letters or digits")
            if kind.pool in seen:
                raise WishError(f"--nodes {kind.gpu_type}: named twice; write one sum")
            seen.add(kind.pool)
        for option, told in (("--price", self.prices), ("--nvlink", self.nvlink)):
            if strange := sorted(told.keys() - {kind.gpu_type for kind in self.kinds}):
                raise WishError(f"{option} {strange[0]}: no such nodes are asked for")
        for kind in self.kinds:
            groups = self.nvlink.get(kind.gpu_type, 1)
            if groups < 1 or kind.gpus % groups:
                why = f"a number wanted that divides its {kind.gpus} GPUs"
                raise WishError(f"--nvlink {kind.gpu_type}={groups}: {why}")

    @property
    def nodes(self) -> int:
        """All of them."""
        return sum(kind.nodes for kind in self.kinds)

    @property
    def types(self) -> int:
        """How many GPU types there are."""
        return len({kind.gpu_type for kind in self.kinds})

    @property
    def s1s(self) -> int:
        """About how many S1 domains there will be."""
        return math.ceil(self.nodes / (self.ports * (1 - self.empty_ports)))

    @property
    def s2s(self) -> int:
        """About how many S2 domains there will be."""
        return math.ceil(self.s1s / self.s1_per_s2)

    @property
    def s1s_mixed(self) -> int:
        """How many S1 domains are to be mixed; none where there is but one type."""
        return round(self.mixed_s1 * self.s1s) if self.types > 1 else 0

    @property
    def s2s_mixed(self) -> int:
        """How many S2 domains are to be mixed."""
        return round(self.mixed_s2 * self.s2s) if self.types > 1 else 0


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
