"""An account of its own: whether what a placer says is allowed, and what it cost.

It trusts nobody: a placement that takes a GPU twice, a wrong type or a wrong domain stops the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.placement.baseline import units, wall_of
from benchmarks.placement.flow import crossing, inside
from heteroscale_coordinator.core.placement import Ask, NodeView, Spot
from heteroscale_coordinator.core.topology import SubgroupClass, Tree, paths_of

LEVELS = ("s1", "s2", "cluster")
EXACT = 1e-9


class CheatError(AssertionError):
    """A placement that cannot be."""


class Judge:
    """The fleet's GPUs, and who has them."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self.tree = Tree(nodes)
        self.nodes = {node.agent_id: node for node in nodes}
        self.free = {n.agent_id: set(n.free) if n.usable else set[int]() for n in nodes}
        self.domains: Mapping[str, Mapping[str, str]] = {
            level: {n.agent_id: str(getattr(paths_of(n.topology), level)) for n in nodes}
            for level in LEVELS
        }

    def take(self, ask: Ask, spots: Sequence[Spot]) -> None:
        """Check a placement of ``ask`` and note it. Raises CheatError."""
        for role, count in ask.delta.items():
            if sum(spot.role is role for spot in spots) != max(count, 0):
                raise CheatError(f"{ask.service}: not {count} {role}")
        for spot in spots:
            self._take(ask, spot)
        self._check_walls(ask, spots)

    def give(self, spot: Spot) -> None:
        """Note that an instance is gone."""
        for rank in spot.ranks:
            self.free[rank.agent_id].update(rank.gpu_indices)

    def high(self, spots: Iterable[Spot]) -> int:
        """Return the GPUs of high-class nodes among those of ``spots``."""
        return sum(
            len(rank.gpu_indices)
            for spot in spots
            for rank in spot.ranks
            if self.tree.class_of(rank.agent_id) is SubgroupClass.HIGH
        )

    def crossing(self, spots: Iterable[Spot], level: str) -> float:
        """Return the pairs whose traffic must leave the domains of a level."""
        return crossing(spots, self.domains[level])

    def inside(self, spots: Iterable[Spot], level: str) -> float:
        """Return the share of the traffic that can stay inside the domains of a level."""
        return inside(spots, self.domains[level])

    def _take(self, ask: Ask, spot: Spot) -> None:
        spec = ask.roles[spot.role]
        agents = [rank.agent_id for rank in spot.ranks]
        if len(set(agents)) != spec.ranks:
            raise CheatError(f"{ask.service}: ranks on {agents}")
        for rank in spot.ranks:
            if len(rank.gpu_indices) != spec.gpus or not self.free[rank.agent_id].issuperset(
                rank.gpu_indices
            ):
                raise CheatError(f"{ask.service}: {rank.gpu_indices} of {rank.agent_id} not free")
            types = {self.nodes[rank.agent_id].gpu_types[index] for index in rank.gpu_indices}
            if types != {spot.gpu_type} or (spec.gpu_types and spot.gpu_type not in spec.gpu_types):
                raise CheatError(f"{ask.service}: {spot.role} on {types}")
            self.free[rank.agent_id].difference_update(rank.gpu_indices)

    def _check_walls(self, ask: Ask, spots: Sequence[Spot]) -> None:
        """Each domain holds whole units: an instance over two domains, or a lone half, is a breach."""
        level = wall_of(ask)
        domain = self.domains[level]
        for spot in spots:
            if len({domain[rank.agent_id] for rank in spot.ranks}) > 1:
                raise CheatError(f"{ask.service}: an instance over two {level}")
        if len(ask.delta) == 1:
            return
        there: dict[str, dict[str, int]] = {}
        for spot in spots:
            counts = there.setdefault(domain[spot.ranks[0].agent_id], {})
            counts[spot.role] = counts.get(spot.role, 0) + 1
        if not _partition(
            [{str(role): n for role, n in unit.items()} for unit in units(ask)],
            list(there.values()),
        ):
            raise CheatError(f"{ask.service}: a group torn apart: {there}")


def _partition(parts: list[dict[str, int]], wholes: list[dict[str, int]]) -> bool:
    """Return whether the parts add up to the wholes, each part in one of them."""
    if not parts:
        return not any(any(whole.values()) for whole in wholes)
    part, rest = parts[0], parts[1:]
    tried: list[dict[str, int]] = []
    for whole in wholes:
        if whole in tried or any(whole.get(role, 0) < count for role, count in part.items()):
            continue
        tried.append(dict(whole))
        for role, count in part.items():
            whole[role] -= count
        if _partition(rest, wholes):
            return True
        for role, count in part.items():
            whole[role] += count
    return False
