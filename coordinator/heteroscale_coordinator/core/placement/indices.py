"""Choose which of a node's free GPUs an instance gets: one neighbourhood where one has room, best fit.

A neighbourhood is a NUMA node, as the node's agent tells it: what crosses from one to the other goes
over the link between sockets (``SYS`` in the words of ``nvidia-smi topo -m``), and so does the way to
the other's RDMA ports. It is what Kubernetes' Topology Manager calls best effort, but for the packing:
the tightest neighbourhood is taken, so that whole ones stay free.

GPUs whose neighbourhood is not told are as one, of which the lowest indices go first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

Near = Mapping[int, int]
"""Neighbourhood by GPU index, of all GPUs of a node, free or not; one that is not told is missing."""


def choose(free: Collection[int], gpus: int, near: Near) -> tuple[int, ...]:
    """Return ``gpus`` of the free indices, lowest first; all of them where there are fewer.

    Of one neighbourhood: told before untold, the least left over, broken before whole, the lowest.
    Where none has room, of as few as will do: the largest whole, the rest by the same rule.
    """
    rest = sorted(free)
    if not near or len(rest) <= gpus:
        return tuple(rest[:gpus])
    homes: dict[int | None, list[int]] = {}
    for index in rest:
        homes.setdefault(near.get(index), []).append(index)
    by_fit = sorted(homes.items(), key=_fit(near))
    found: list[int] = []
    while len(found) < gpus:
        wanted = gpus - len(found)
        roomy = (place for place, (_, here) in enumerate(by_fit) if len(here) >= wanted)
        largest = max(range(len(by_fit)), key=lambda place: len(by_fit[place][1]))
        found += by_fit.pop(next(roomy, largest))[1][:wanted]
    return tuple(sorted(found))


def _fit(near: Near) -> Callable[[tuple[int | None, list[int]]], tuple[bool, int, bool, int]]:
    """Return the order in which neighbourhoods with room are taken."""
    sizes = Counter(near.values())

    def key(one: tuple[int | None, list[int]]) -> tuple[bool, int, bool, int]:
        home, here = one
        return home is None, len(here), home is not None and len(here) == sizes[home], here[0]

    return key


def deal(free: Collection[int], sizes: Sequence[int], near: Near) -> list[tuple[int, ...]]:
    """Return indices for several instances on one node, in the order of ``sizes``; none twice.

    Where neighbourhoods are told the largest choose first: the small find room in what these leave.
    """
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number] if near else number)
    rest = set(free)
    found: dict[int, tuple[int, ...]] = {}
    for number in order:
        found[number] = choose(rest, sizes[number], near)
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
