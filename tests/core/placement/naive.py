"""The slow and obvious version: tries every way to seat a step; nobody need trust the fast one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from heteroscale.words import Role
from heteroscale_coordinator.core.placement import Ask, Fragments, NodeView

Free = dict[tuple[str, str], int]
"""Free GPUs by agent and type."""


def bears(ask: Ask, node: NodeView) -> bool:
    """Whether the service tolerates every taint of a node that forbids it."""
    return all(
        taint.effect == "PreferNoSchedule"
        or any(
            one.key in (taint.key, "")
            and (one.operator == "Exists" or one.value == taint.value)
            and one.effect in (taint.effect, None)
            for one in ask.placement.tolerations
        )
        for taint in node.taints
    )


def domain_of(node: NodeView, level: str) -> tuple[str, ...] | None:
    """Return what tells a node's domain from others, or None when the node does not say."""
    s1, s2 = node.topology.get("s1"), node.topology.get("s2")
    outer = tuple(
        node.topology.get(name) or "" for name in ("vdc", "physical_cluster", "logical_cluster")
    )
    if level == "cluster":
        return outer
    if level == "s2" and s2:
        return (*outer, s2)
    return (*outer, s2 or "", s1) if s1 else None


def fits_in_one_domain(ask: Ask, nodes: Sequence[NodeView], level: str) -> bool:
    """Whether the whole step has a place in some single domain of the level."""
    names = {domain_of(node, level) for node in nodes} - {None}
    items = [role for role, count in ask.delta.items() for _ in range(count)]
    return any(
        _seat(ask, items, [node for node in nodes if domain_of(node, level) == name], None)
        for name in names
    )


def fits_one_by_one(ask: Ask, nodes: Sequence[NodeView], level: str) -> bool:
    """Whether every instance has a place, each for itself inside some domain of the level."""
    items = [role for role, count in ask.delta.items() for _ in range(count)]
    return _seat(ask, items, [node for node in nodes if domain_of(node, level)], level)


def _seat(ask: Ask, items: list[Role], nodes: Sequence[NodeView], within: str | None) -> bool:
    free: Free = {}
    for node in nodes:
        for index in node.free:
            key = node.agent_id, node.gpu_types[index]
            free[key] = free.get(key, 0) + 1
    return _seat_rest(ask, items, nodes, within, free)


def _seat_rest(
    ask: Ask, items: list[Role], nodes: Sequence[NodeView], within: str | None, free: Free
) -> bool:
    if not items:
        return True
    need = ask.roles[items[0]].gpus
    for chosen, gpu_type in _ways(ask, items[0], nodes, within, free):
        for agent_id in chosen:
            free[agent_id, gpu_type] -= need
        done = _seat_rest(ask, items[1:], nodes, within, free)
        for agent_id in chosen:
            free[agent_id, gpu_type] += need
        if done:
            return True
    return False


def _ways(
    ask: Ask, role: Role, nodes: Sequence[NodeView], within: str | None, free: Free
) -> Iterator[tuple[list[str], str]]:
    spec = ask.roles[role]
    for gpu_type in spec.gpu_types or ("H20", "L20"):
        able = [
            node
            for node in nodes
            if node.usable
            and spec.template in node.templates
            and bears(ask, node)
            and free.get((node.agent_id, gpu_type), 0) >= spec.gpus
        ]
        for chosen in combinations(able, spec.ranks):
            if within is None or len({domain_of(node, within) for node in chosen}) == 1:
                yield [node.agent_id for node in chosen], gpu_type


def fragments(nodes: Sequence[NodeView]) -> dict[str, Fragments]:
    """Return how the free GPUs of each type lie, counted over all nodes."""
    broken = {domain_of(one, "s1") for one in nodes if not _whole(one)}
    found: dict[str, list[int]] = {}
    for one in nodes:
        home = domain_of(one, "s1")
        for index, kind in one.gpu_types.items() if one.usable else ():
            counts, free = found.setdefault(kind, [0, 0, 0]), index in one.free
            counts[0] += free
            counts[1] += free and _whole(one)
            counts[2] += free and home is not None and home not in broken
    return {kind: Fragments(*found[kind]) for kind in sorted(found)}


def _whole(node: NodeView) -> bool:
    return node.usable and bool(node.gpu_types) and set(node.free) >= node.gpu_types.keys()
