"""Choose which of a node's free GPUs an instance gets: one neighbourhood where one has room, best fit.

GPUs that reach each other by NVLink are the nearest to each other, then those of one NUMA node: what
crosses from one to the other goes over the link between sockets (``SYS`` in the words of ``nvidia-smi
topo -m``), and so does the way to the other's RDMA ports. It is what Kubernetes' Topology Manager calls
best effort, but for the packing: the tightest neighbourhood is taken, so that whole ones stay free.

GPUs whose neighbourhood is not told are as one, of which the lowest indices go first. Where choices are
equal, GPUs go last near which an RDMA port is down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

Near = Mapping[int, int]
"""Neighbourhood by GPU index, of all GPUs of a node, free or not; one that is not told is missing."""


class Layout(NamedTuple):
    """How the GPUs of a node lie to each other."""

    numa: Near = {}
    links: Near = {}
    """NVLink groups."""
    limping: frozenset[int] = frozenset()
    """GPUs near which an RDMA port is down, and others are not."""


def choose(free: Collection[int], gpus: int, layout: Layout) -> tuple[int, ...]:
    """Return ``gpus`` of the free indices, lowest first; all of them where there are fewer.

    Of one NVLink group, else of one NUMA node, else of as few as will do. Of each: told before untold,
    the least left over, broken before whole, few that limp, the lowest.
    """
    rest = sorted(free, key=lambda index: (index in layout.limping, index))
    if len(rest) <= gpus:
        return tuple(sorted(rest))
    room = Counter(layout.links[index] for index in rest if index in layout.links)
    linked = any(count >= gpus for count in room.values())
    levels = (layout.links, layout.numa) if linked else (layout.numa, layout.links)
    return tuple(sorted(_pick(rest, gpus, tuple(filter(None, levels)), layout.limping)))


def _pick(
    rest: Sequence[int], gpus: int, levels: tuple[Near, ...], limping: frozenset[int]
) -> list[int]:
    """Return so many of the GPUs, in the order given, by the neighbourhoods of each level in turn.

    Where none has room, of as few as will do: the largest whole, the rest by the same rule.
    """
    if not levels or len(rest) <= gpus:
        return list(rest[:gpus])
    near, *inner = levels
    homes: dict[int | None, list[int]] = {}
    for index in rest:
        homes.setdefault(near.get(index), []).append(index)
    by_fit = sorted(homes.items(), key=_fit(rest, gpus, levels, limping))
    found: list[int] = []
    while len(found) < gpus:
        wanted = gpus - len(found)
        roomy = (place for place, (_, here) in enumerate(by_fit) if len(here) >= wanted)
        largest = max(range(len(by_fit)), key=lambda place: len(by_fit[place][1]))
        found += _pick(by_fit.pop(next(roomy, largest))[1], wanted, tuple(inner), limping)
    return found


_Order = tuple[bool, int, bool]
_ACROSS = (True, 0, True)
"""Of what lies in several of a level: behind what lies in one."""


def _fit(
    rest: Sequence[int], gpus: int, levels: tuple[Near, ...], limping: frozenset[int]
) -> Callable[[tuple[int | None, list[int]]], tuple[_Order, tuple[_Order, ...], int, int]]:
    """Return the order in which neighbourhoods with room are taken.

    Equals by that of what they lie in: of two NVLink pairs the one in the tighter NUMA node.
    """
    sizes = [Counter(near.values()) for near in levels]
    rooms = [Counter(near.get(index) for index in rest) for near in levels]

    def order(level: int, index: int) -> _Order:
        home = levels[level].get(index)
        room = rooms[level][home]
        return home is None, room, home is not None and room == sizes[level][home]

    def around(level: int, here: Sequence[int]) -> _Order:
        one = len({levels[level].get(index) for index in here}) == 1
        return order(level, here[0]) if one else _ACROSS

    def key(
        one: tuple[int | None, list[int]],
    ) -> tuple[_Order, tuple[_Order, ...], int, int]:
        _, here = one
        inner = tuple(around(level, here) for level in range(1, len(levels)))
        return order(0, here[0]), inner, sum(i in limping for i in here[:gpus]), min(here)

    return key


def deal(free: Collection[int], sizes: Sequence[int], layout: Layout) -> list[tuple[int, ...]]:
    """Return indices for several instances on one node, in the order of ``sizes``; none twice.

    Where neighbourhoods are told the largest choose first: the small find room in what these leave.
    """
    told = bool(layout.numa or layout.links)
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number] if told else number)
    rest = set(free)
    found: dict[int, tuple[int, ...]] = {}
    for number in order:
        found[number] = choose(rest, sizes[number], layout)
        rest.difference_update(found[number])
    return [found[number] for number in range(len(sizes))]


def torn(indices: Collection[int], near: Near, alike: Collection[int]) -> int:
    """Return in how many neighbourhoods these GPUs lie, 0 where that is no fault.

    It is none in one, and none where no neighbourhood has so many of ``alike``, the node's GPUs of the
    same type whatever their state: an instance of a whole node lies in all of them.
    """
    homes = {near[index] for index in indices if index in near}
    if len(homes) < 2:  # noqa: PLR2004 - one is whole
        return 0
    most = max(Counter(near[index] for index in alike if index in near).values(), default=0)
    return len(homes) if most >= len(indices) else 0
