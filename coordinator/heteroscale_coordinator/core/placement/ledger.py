"""What of each sub-cluster is used: counted node by node, so that a quota is asked for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from heteroscale_coordinator.core.placement.values import NodeView, Spot
from heteroscale_coordinator.core.topology import sub_cluster_of


class Ledger:
    """Nodes of each sub-cluster, and the GPUs of ours there, by type."""

    def __init__(self) -> None:
        self._nodes = Counter[str]()
        self._all = Counter[tuple[str, str]]()
        self._used = Counter[tuple[str, str]]()
        self._promised = Counter[tuple[str, str]]()

    def names(self) -> frozenset[str]:
        """Return the sub-clusters that have nodes; those of nodes that name none are the empty one."""
        return frozenset(self._nodes)

    def nodes(self) -> Counter[str]:
        """Return how many nodes with GPUs each sub-cluster has; not to be changed."""
        return self._nodes

    def used(self, sub_cluster: str, gpu_type: str) -> int:
        """Return the GPUs of a type there that instances hold, or that a cycle has promised."""
        key = sub_cluster, gpu_type
        return self._used[key] + self._promised[key]

    def having(self, gpu_type: str) -> frozenset[str]:
        """Return the sub-clusters that have a GPU type."""
        return frozenset(
            name for (name, kind), gpus in self._all.items() if gpus and kind == gpu_type
        )

    def types(self, sub_cluster: str) -> list[str]:
        """Return the GPU types that a sub-cluster has, in order."""
        return sorted(k for (name, k), gpus in self._all.items() if gpus and name == sub_cluster)

    def write(self, before: NodeView | None, after: NodeView | None) -> None:
        """Take in that a node came, went or changed."""
        if before is not None and after is not None and _alike(before, after):
            return
        for node, sign in ((before, -1), (after, +1)):
            if node is None or not node.gpu_types:
                continue
            name = sub_cluster_of(node.topology)
            self._nodes[name] += sign
            if not self._nodes[name]:
                del self._nodes[name]
            for gpu_type in node.gpu_types.values():
                self._all[name, gpu_type] += sign
            for index in node.gpu_types.keys() - node.closed.keys() - set(node.free):
                self._used[name, node.gpu_types[index]] += sign

    def promise(self, taken: Mapping[tuple[str, str], int], sign: int = 1) -> None:
        """Count what a place takes until its instances hold it; ``sign`` -1: no more."""
        for key, gpus in taken.items():
            self._promised[key] += sign * gpus


def taken(spots: Iterable[Spot], home: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Return the GPUs that spots take by sub-cluster and type; ``home``: sub-cluster by agent."""
    found = Counter[tuple[str, str]]()
    for spot in spots:
        for rank in spot.ranks:
            found[home[rank.agent_id], spot.gpu_type] += len(rank.gpu_indices)
    return found


def _alike(one: NodeView, other: NodeView) -> bool:
    """Return whether two states of a node count the same."""
    return (
        one.free == other.free
        and one.closed == other.closed
        and one.gpu_types == other.gpu_types
        and one.topology == other.topology
    )
