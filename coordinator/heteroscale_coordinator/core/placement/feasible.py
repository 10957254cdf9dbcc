"""Filter: which nodes may hold what, and why a domain cannot hold a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.values import Ask, NodeView
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_coordinator.core.topology import Path, SubgroupClass, Tree


@dataclass(frozen=True, slots=True)
class Bench:
    """A node that may take instances of the ask, with its free GPUs."""

    agent_id: str
    roles: frozenset[Role]
    """Roles whose launch template the agent allows."""
    free: Mapping[str, tuple[int, ...]]
    """Indices of free GPUs by type, lowest first."""
    subgroup: SubgroupClass
    near: Path
    """Its S1, or itself alone when it names none."""


def seat_nodes(ask: Ask, nodes: Iterable[NodeView], tree: Tree) -> dict[str, Bench]:
    """Return the nodes that may take a part of the ask, by agent id."""
    wanted = {role: ask.roles[role] for role, count in ask.delta.items() if count > 0}
    benches = {}
    for node in nodes:
        roles = frozenset(r for r, spec in wanted.items() if spec.template in node.templates)
        if node.usable and roles and node.free:
            free: dict[str, list[int]] = {}
            for index in sorted(set(node.free)):
                free.setdefault(node.gpu_types.get(index, ""), []).append(index)
            benches[node.agent_id] = Bench(
                node.agent_id,
                roles,
                {gpu_type: tuple(free[gpu_type]) for gpu_type in sorted(free)},
                tree.class_of(node.agent_id),
                tree.near(node.agent_id),
            )
    return benches


def preference(spec: RoleSpec, gpu_type: str) -> int | None:
    """Return the place of a type in the role's order, 0 the best; None: not wanted at all."""
    if not spec.gpu_types:
        return 0
    return spec.gpu_types.index(gpu_type) if gpu_type in spec.gpu_types else None


def room(role: Role, spec: RoleSpec, benches: Iterable[Bench]) -> int:
    """Return how many ranks of the role alone fit on the nodes, whole instances or not."""
    return sum(
        len(indices) // spec.gpus
        for bench in benches
        if role in bench.roles
        for gpu_type, indices in bench.free.items()
        if preference(spec, gpu_type) is not None
    )


def shortfall(
    ask: Ask, counts: Counts, nodes: Sequence[NodeView], benches: Sequence[Bench]
) -> str | None:
    """Say why the nodes of one domain cannot hold ``counts``; None when there are GPUs enough.

    Necessary, not sufficient: GPUs are counted for each role and for all together.
    """
    for role, count in counts.items():
        spec = ask.roles[role]
        if count > 0 and room(role, spec, benches) < count * spec.ranks:
            return _say_short(role, spec, count, nodes, benches)
    wanted = sum(ask.roles[r].gpus * ask.roles[r].ranks * count for r, count in counts.items())
    free = _free_together(ask, counts, benches)
    if free < wanted:
        return f"{free} GPUs free of the types named, wanted {wanted} ({' and '.join(counts)})"
    return None


def _free_together(ask: Ask, counts: Counts, benches: Sequence[Bench]) -> int:
    return sum(
        len(indices)
        for bench in benches
        for gpu_type, indices in bench.free.items()
        if any(
            role in bench.roles and preference(ask.roles[role], gpu_type) is not None
            for role, count in counts.items()
            if count > 0
        )
    )


def _say_short(
    role: Role, spec: RoleSpec, count: int, nodes: Sequence[NodeView], benches: Sequence[Bench]
) -> str:
    total = sum(preference(spec, t) is not None for n in nodes for t in n.gpu_types.values())
    free = sum(
        len(indices)
        for bench in benches
        if role in bench.roles
        for gpu_type, indices in bench.free.items()
        if preference(spec, gpu_type) is not None
    )
    types = f"type {' or '.join(spec.gpu_types)}" if spec.gpu_types else "any type"
    wanted = count * spec.ranks * spec.gpus
    text = f"{free} of {total} GPUs free of {types}, wanted {wanted} ({role})"
    if free >= wanted:
        text += f", {spec.gpus} together on a node"
    without = sum(node.usable and spec.template not in node.templates for node in nodes)
    if without:
        text += f"; {without} of {len(nodes)} nodes do not allow template {spec.template!r}"
    shut = [(node, index) for node in nodes if node.usable for index in node.closed]
    if shut:
        node, index = shut[0]
        text += f"; {len(shut)} GPUs closed ({node.agent_id} GPU {index}: {node.closed[index]})"
    unusable = [node for node in nodes if not node.usable]
    if unusable:
        first = unusable[0]
        why = f"{first.agent_id} {first.why_not}".strip()
        text += f"; {len(unusable)} of {len(nodes)} nodes not usable ({why})"
    return text
