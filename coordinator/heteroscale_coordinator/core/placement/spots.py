"""Turn seats into spots: on each node the GPUs that lie together, and where they do not, another node.

Packing counts GPUs and knows no neighbourhoods. So where an instance would be torn on its node, another
of the same S1 is taken in its stead, one that is in use already: class, type and group stay the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from heteroscale.taints import Taints
from heteroscale_coordinator.core.model import Rank
from heteroscale_coordinator.core.placement.ground import Ground
from heteroscale_coordinator.core.placement.hand import Seat
from heteroscale_coordinator.core.placement.indices import Layout, deal, torn
from heteroscale_coordinator.core.placement.kind import Kind
from heteroscale_coordinator.core.placement.shape import Free, Shape
from heteroscale_coordinator.core.placement.values import NodeView, Spot

LOOKED_AT = 16
"""Nodes looked at in the stead of one: what is torn may stay so, a turn may not take long."""


class Seated(NamedTuple):
    """The spots of one domain's part of a step, in the order of its seats."""

    spots: tuple[Spot, ...]
    torn: tuple[str, ...]
    """Which instances lie in several neighbourhoods though one could hold them, in words."""


class _Dealt(NamedTuple):
    agent_id: str
    indices: Sequence[tuple[int, ...]]
    torn: Sequence[str]


def seated(ground: Ground, seats: Sequence[Seat], group: str) -> Seated:
    """Return where the instances of these seats go, GPU by GPU."""
    loads: dict[str, list[int]] = {}
    for number, seat in enumerate(seats):
        loads.setdefault(seat.agent_id, []).append(number)
    used, ranks, said = set(loads), dict[int, Rank](), list[str]()
    for agent_id, numbers in loads.items():
        dealt = _best(ground, agent_id, [seats[number] for number in numbers], used)
        used.add(dealt.agent_id)
        said += dealt.torn
        for number, indices in zip(numbers, dealt.indices, strict=True):
            ranks[number] = Rank(dealt.agent_id, indices)
    return Seated(tuple(_joined(ground, seats, ranks, group)), tuple(said))


def _joined(
    ground: Ground, seats: Sequence[Seat], ranks: Mapping[int, Rank], group: str
) -> Iterator[Spot]:
    mates: list[Rank] = []
    for number, seat in enumerate(seats):
        mates.append(ranks[number])
        if len(mates) == ground.ask.roles[seat.role].ranks:
            yield Spot(seat.role, tuple(mates), group, seat.gpu_type)
            mates = []


def _best(ground: Ground, agent_id: str, seats: Sequence[Seat], used: set[str]) -> _Dealt:
    """Return the node itself, or the first of those in its stead on which less is torn."""
    best = _dealt(ground, agent_id, seats)
    if best.torn:
        others = (other for other in _in_stead(ground, agent_id, seats) if other not in used)
        for other in islice(others, LOOKED_AT):
            found = _dealt(ground, other, seats)
            if len(found.torn) < len(best.torn):
                best = found
            if not best.torn:
                break
    return best


def _in_stead(ground: Ground, agent_id: str, seats: Sequence[Seat]) -> Iterator[str]:
    """Yield nodes of the same S1 that have room for all seats of one: its equals, then the tightest.

    A node of which everything is free is none of them: whole nodes are kept for the large.
    """
    site = ground.view.site(agent_id)
    if site is None or site.shape is None:
        return
    kinds = {part.kind for part in ground.parts({seat.role: 1 for seat in seats})}
    wanted = Counter[str]()
    for seat in seats:
        wanted[seat.gpu_type] += seat.gpus
    yield from site.near.shapes.get(site.shape, ())
    others = (one for one in site.near.shapes if one is not site.shape)
    for shape in sorted(others, key=_tightest):
        free = Counter(dict(shape.free))
        if _as_good(kinds, shape, site.shape) and free >= wanted:
            for other in site.near.shapes[shape][:LOOKED_AT]:
                node = ground.view.node(other)
                if node is not None and len(node.gpu_types) > shape.gpus:
                    yield other


def _tightest(shape: Shape) -> tuple[int, list[str], Taints, Free]:
    return shape.gpus, sorted(shape.terms.templates), shape.terms.taints, shape.free


def _as_good(kinds: Iterable[Kind], shape: Shape, than: Shape) -> bool:
    """Return whether nodes of a shape take all kinds, none less gladly than those of another."""
    return all(
        kind.admitted(shape.terms) and kind.shunned(shape.terms) <= kind.shunned(than.terms)
        for kind in kinds
    )


def _dealt(ground: Ground, agent_id: str, seats: Sequence[Seat]) -> _Dealt:
    node = ground.view.node(agent_id)
    layout = node.layout if node is not None else Layout()
    numbers: dict[str, list[int]] = {}
    for number, seat in enumerate(seats):
        numbers.setdefault(seat.gpu_type, []).append(number)
    found: dict[int, tuple[int, ...]] = {}
    for gpu_type, mine in numbers.items():
        free = ground.view.free(agent_id, gpu_type)
        found |= zip(mine, deal(free, [seats[n].gpus for n in mine], layout), strict=True)
    indices = [found[number] for number in range(len(seats))]
    return _Dealt(agent_id, indices, _torn(node, indices) if node is not None else ())


def _torn(node: NodeView, every: Sequence[tuple[int, ...]]) -> list[str]:
    """Say of each instance that is torn on the node that it is."""
    said = []
    for indices in every:
        gpu_type = node.gpu_types[indices[0]] if indices else ""
        alike = [index for index, kind in node.gpu_types.items() if kind == gpu_type]
        for what, near in (("NVLink groups", node.links), ("NUMA nodes", node.neighbourhoods)):
            if homes := torn(indices, near, alike):
                which = ",".join(map(str, indices))
                none = f"none has {len(indices)} free"
                said.append(f"GPUs {which} of {node.agent_id} lie in {homes} {what}: {none}")
    return said
