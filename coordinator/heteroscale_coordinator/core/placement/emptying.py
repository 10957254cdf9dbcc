"""Defragment: which instances, moved to other nodes of their S1, would leave whole nodes empty.

Large instances need whole nodes. A move never leaves the S1, nor the GPU type, so no group is torn and
nothing is worse off; and it only fills nodes that are in use already. It is a proposal: nothing applies
it but a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.placement.indices import Layout, choose
from heteroscale_coordinator.core.placement.values import NodeView
from heteroscale_coordinator.core.topology import Path, paths_of


@dataclass(frozen=True, slots=True)
class Tenant:
    """What holds GPUs of one node."""

    instance_id: str
    agent_id: str
    gpus: tuple[int, ...]
    """Indices."""
    movable: bool = True
    """False for one that is not ours, has ranks elsewhere, or does not serve calmly."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One instance from one node to another of its S1."""

    instance_id: str
    agent_id: str
    """Where it goes."""
    gpus: tuple[int, ...]
    """On which GPUs there."""


@dataclass(frozen=True, slots=True)
class Emptied:
    """A node that would be empty, and what has to move for it."""

    agent_id: str
    shifts: tuple[Shift, ...]


def defragment(nodes: Sequence[NodeView], tenants: Iterable[Tenant]) -> tuple[Emptied, ...]:
    """Return the nodes that can be emptied, one after the other; each counts on the ones before it.

    Nodes with the fewest GPUs held come first. Greedy: a cleverer choice may empty more.
    """
    here: dict[str, list[Tenant]] = {}
    for tenant in tenants:
        here.setdefault(tenant.agent_id, []).append(tenant)
    found: list[Emptied] = []
    for group in _alike(nodes):
        found.extend(_empty(group, here))
    return tuple(found)


def _alike(nodes: Sequence[NodeView]) -> list[list[NodeView]]:
    """Return the nodes between which instances may move: of one S1 and one GPU type, and usable."""
    groups: dict[tuple[Path, str], list[NodeView]] = {}
    for node in nodes:
        near, kinds = paths_of(node.topology).s1, set(node.gpu_types.values())
        if node.usable and near is not None and len(kinds) == 1:
            groups.setdefault((near, kinds.pop()), []).append(node)
    return [groups[key] for key in sorted(groups)]


def _empty(group: Sequence[NodeView], here: Mapping[str, Sequence[Tenant]]) -> list[Emptied]:
    used = [node for node in group if here.get(node.agent_id)]
    by_use = sorted(used, key=lambda n: (_held(here[n.agent_id]), n.agent_id))
    free = {node.agent_id: sorted(set(node.free)) for node in used}
    by_id = {node.agent_id: node for node in used}
    layouts = {node.agent_id: node.layout for node in used}
    gone: set[str] = set()
    filled: set[str] = set()
    found = []
    for node in by_use:
        tenants = here[node.agent_id]
        # What something was moved to is not emptied again: nothing is moved twice.
        if node.agent_id in filled or not all(one.movable for one in tenants) or node.closed:
            continue
        open_ = [
            name
            for name in free
            if name != node.agent_id and name not in gone and _as_open(by_id[name], node)
        ]
        room = {name: list(free[name]) for name in open_}
        if (shifts := _seat(tenants, room, layouts)) is not None:
            for shift in shifts:
                free[shift.agent_id] = [i for i in free[shift.agent_id] if i not in shift.gpus]
                filled.add(shift.agent_id)
            gone.add(node.agent_id)
            found.append(Emptied(node.agent_id, tuple(shifts)))
    return found


def _as_open(other: NodeView, node: NodeView) -> bool:
    """Return whether a node takes all that may run on another: no template less, no taint more."""
    return other.templates >= node.templates and set(other.taints) <= set(node.taints)


def _held(tenants: Sequence[Tenant]) -> int:
    return sum(len(one.gpus) for one in tenants)


def _seat(
    tenants: Sequence[Tenant], free: dict[str, list[int]], layouts: Mapping[str, Layout]
) -> list[Shift] | None:
    """Return a seat for each, the largest first, on the fullest node that has room; None: no room."""
    shifts = []
    for one in sorted(tenants, key=lambda t: (-len(t.gpus), t.instance_id)):
        fits = [(len(left), name) for name, left in free.items() if len(left) >= len(one.gpus)]
        if not fits:
            return None
        _, name = min(fits)
        taken = choose(free[name], len(one.gpus), layouts[name])
        free[name] = [index for index in free[name] if index not in taken]
        shifts.append(Shift(one.instance_id, name, taken))
    return shifts
