"""Filter: whether a domain has the GPUs for a step at all, and in words what it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized

from heteroscale.taints import Taint
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.hand import Hand
from heteroscale_coordinator.core.placement.kind import Kind, Part, Parts, gpus_of, intolerable
from heteroscale_coordinator.core.placement.shape import Shape
from heteroscale_coordinator.core.placement.values import NodeView

NodeOf = Callable[[str], NodeView | None]

_TWO = 2
_TINY = 1e-6
_TAINTS_SAID = 3
_EXACT = 300_000
"""So much work at most, some tens of milliseconds, goes into an exact answer on two roles together."""


def room(kind: Kind, pools: Iterable[tuple[Shape, Sized]]) -> int:
    """Return how many ranks of one kind alone fit on the nodes, whole instances or not."""
    return sum(len(agents) * shape.room(kind) for shape, agents in pools)


Pools = Sequence[tuple[Shape, Sized]]


def short(parts: Parts, pools: Pools) -> bool:
    """Return whether nodes, wherever they are, lack the GPUs for the parts; True is certain.

    What is soon known of a whole fleet: each alone, all together, and two at once within one or so.
    """
    if _lacking(parts, pools):
        return True
    return _two(parts) and _clash(parts[0], parts[1], pools, exact=0)


def _lacking(parts: Parts, pools: Pools) -> bool:
    if any(room(part.kind, pools) < part.instances * part.kind.ranks for part in parts):
        return True
    return len(parts) > 1 and _together(parts, pools) < gpus_of(parts)


def hopeless(parts: Parts, hand: Hand) -> bool:
    """Return whether nodes lack the GPUs for the parts, each alone, all together, or two at once.

    True is certain. False is too where there are at most two parts of one rank each; else a search
    must say.
    """
    pools = [(shape, agents) for (_, shape), agents in hand.pools.items()]
    if _lacking(parts, pools):
        return True
    if any(p.kind.ranks > 1 and _most_instances(p.kind, pools) < p.instances for p in parts):
        return True
    return _two(parts) and _clash(parts[0], parts[1], pools, exact=_EXACT)


def _two(parts: Parts) -> bool:
    return len(parts) == _TWO and all(part.kind.ranks == 1 for part in parts)


def _most_instances(kind: Kind, pools: Pools) -> int:
    """Return how many instances of several ranks fit at most, each rank on a node of its own."""
    caps: dict[str, list[tuple[int, int]]] = {}
    for shape, agents in pools:
        for one in shape.choices(kind):
            ranks = 1 + one.left_over // kind.gpus
            caps.setdefault(one.gpu_type, []).append((ranks, len(agents)))
    return sum(_deal_out(kind.ranks, alike) for alike in caps.values())


def _deal_out(ranks: int, caps: Sequence[tuple[int, int]]) -> int:
    """Return how many hands of ``ranks`` different cards can be dealt; caps: copies, and of how many."""
    most = sum(copies * cards for copies, cards in caps) // ranks
    while (less := sum(min(copies, most) * cards for copies, cards in caps) // ranks) < most:
        most = less
    return most


def _together(parts: Parts, pools: Iterable[tuple[Shape, Sized]]) -> int:
    kinds = tuple(part.kind for part in parts)
    return sum(len(agents) * shape.joint(kinds) for shape, agents in pools)


def _clash(first: Part, second: Part, pools: Pools, *, exact: int) -> bool:
    """Return whether two parts of one rank each leave no room for each other, however they are laid.

    For every count of the first it is known how many of the second there is room for at most: exactly,
    where that takes no more work than ``exact``, else never too few.
    """
    sizes = first.kind.gpus, second.kind.gpus
    missing, room_for_second = first.instances, 0
    shared: list[tuple[int, int]] = []
    for shape, agents in pools:
        mine = {one.gpu_type for one in shape.choices(first.kind)}
        theirs = {one.gpu_type for one in shape.choices(second.kind)}
        for gpu_type, free in shape.free:
            if gpu_type in mine and gpu_type in theirs:
                shared.append((free, len(agents)))
            elif gpu_type in mine:
                missing -= len(agents) * (free // sizes[0])
            elif gpu_type in theirs:
                room_for_second += len(agents) * (free // sizes[1])
    if missing <= 0:
        return False
    work = missing * sum(min(nodes, missing) * (1 + free // sizes[0]) for free, nodes in shared)
    most = most_beside if work <= exact else at_most_beside
    return second.instances > room_for_second + most(missing, sizes, shared)


def most_beside(count: int, sizes: tuple[int, int], shared: Iterable[tuple[int, int]]) -> float:
    """Return how many of the second size fit at most beside ``count`` of the first, -inf for none.

    ``shared`` are free GPUs and how many nodes have them, all of a type that both may use.
    """
    mine, theirs = sizes
    best: list[float] = [0.0] + [float("-inf")] * count
    for free, nodes in shared:
        # At most ``count`` of the nodes can take any of the first; the others are alike.
        for _ in range(min(nodes, count)):
            best = [
                max(
                    best[n - here] + (free - here * mine) // theirs
                    for here in range(min(n, free // mine) + 1)
                )
                for n in range(count + 1)
            ]
        best = [most + max(0, nodes - count) * (free // theirs) for most in best]
    return best[count]


def at_most_beside(count: int, sizes: tuple[int, int], shared: Iterable[tuple[int, int]]) -> float:
    """Return the same for many, never too few: as if nodes could take a fraction of one.

    Each next one of the first size goes where the fewest of the second are lost by it.
    """
    mine, theirs = sizes
    most, left, losses = 0, count, list[tuple[float, int]]()
    for free, nodes in shared:
        most += nodes * (free // theirs)
        at, last = 0, free // mine
        while at < last:
            here = (free - at * mine) // theirs
            loss, to = min(
                ((here - (free - more * mine) // theirs) / (more - at), more)
                for more in range(at + 1, last + 1)
            )
            losses.append((loss, nodes * (to - at)))
            at = to
    lost = 0.0
    for loss, ones in sorted(losses):
        lost += loss * min(ones, left)
        left -= min(ones, left)
    return float("-inf") if left else most - lost + _TINY


def shortfall(parts: Parts, cell: Cell, node_of: NodeOf) -> str | None:
    """Say why a domain is hopeless for the parts; None when it is not.

    ``node_of`` returns a node by its agent.
    """
    pools = cell.shapes.items()
    for part in parts:
        if room(part.kind, pools) < part.instances * part.kind.ranks:
            return _say_short(part, cell, node_of)
        if part.kind.ranks > 1 and (said := _say_apart(part, tuple(pools))):
            return said
    free, wanted = _together(parts, pools), gpus_of(parts)
    if free < wanted:
        roles = " and ".join(part.role for part in parts)
        text = f"{free} GPUs free of the types named, wanted {wanted} ({roles})"
        return text + _say_tainted(parts[0].kind, cell)
    return None


def _say_apart(part: Part, pools: Pools) -> str:
    """Say that there are too few nodes to seat each rank of an instance on one of its own; or nothing."""
    kind, most = part.kind, _most_instances(part.kind, pools)
    if most >= part.instances:
        return ""
    gpus = f"{kind.gpus} GPU{'s' * (kind.gpus > 1)}"
    return (
        f"nodes for {most} of {part.instances} {part.role}: each takes {kind.ranks} nodes of one GPU "
        f"type with {gpus} free, one for each rank"
    )


def _say_short(part: Part, cell: Cell, node_of: NodeOf) -> str:
    kind = part.kind
    total = sum(
        tally.gpus
        for gpu_type, tally in cell.by_type().items()
        if kind.preference(gpu_type) is not None
    )
    free = sum(len(agents) * shape.joint((kind,)) for shape, agents in cell.shapes.items())
    types = f"type {' or '.join(kind.gpu_types)}" if kind.gpu_types else "any type"
    wanted = part.gpus
    text = f"{free} of {total} GPUs free of {types}, wanted {wanted} ({part.role})"
    if free >= wanted:
        text += f", {kind.gpus} together on a node"
    without = sum(
        nodes for terms, nodes in cell.terms.items() if kind.template not in terms.templates
    )
    if without:
        text += f"; {without} of {cell.nodes} nodes do not allow template {kind.template!r}"
    text += _say_tainted(kind, cell)
    if cell.barred and (first := node_of(min(cell.barred))) is not None:
        index = min(first.closed)
        why = f"{first.agent_id} GPU {index}: {first.closed[index]}"
        text += f"; {sum(cell.barred.values())} GPUs closed ({why})"
    if cell.shut and (first := node_of(cell.shut[0])) is not None:
        why = f"{first.agent_id} {first.why_not}".strip()
        text += f"; {len(cell.shut)} of {cell.nodes} nodes not usable ({why})"
    return text


def _say_tainted(kind: Kind, cell: Cell) -> str:
    """Say how many usable nodes carry which taints that the service does not tolerate."""
    found = Counter[Taint]()
    for terms, nodes in cell.terms.items():
        found.update(dict.fromkeys(intolerable(terms.taints, kind.tolerations), nodes))
    said = [
        f"; {nodes} node{' carries' if nodes == 1 else 's carry'} the taint {taint}, "
        "which the service does not tolerate"
        for taint, nodes in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:_TAINTS_SAID]
    ]
    return "".join(said)
