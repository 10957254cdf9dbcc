"""Deal the nodes out to switches: first the mixed S2 domains, then each kind in domains of its own.

Racks are bought at different times, so the finished S2 domains are shuffled before they are given
their numbers: a logical cluster has some of each. The same wish gives the same inventory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from heteroscale_simulator.inventory.wish import Kind, Wish

PARTS = (0.25, 0.5, 0.75)
"""Share of a mixed S1 that its first kind has: one of these."""
S1 = dict[Kind, int]
"""Nodes by kind below one switch."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Some nodes of a kind in one S1."""

    nodes: int
    s1: str
    s2: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What of a host does not work."""

    host: str
    down: bool = False
    gpus: tuple[int, ...] = ()
    links: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """Where everything stands, and what of it is broken."""

    wish: Wish
    stands: dict[Kind, tuple[Stand, ...]]
    clusters: dict[str, tuple[str, str]]
    """Physical cluster and VDC by logical cluster."""
    faults: tuple[Fault, ...]


def build(wish: Wish) -> Inventory:
    """Return the inventory that ``wish`` describes."""
    dice = np.random.default_rng(wish.seed)
    pods = _Dealer(wish, dice).deal()
    stands: dict[Kind, list[Stand]] = {kind: [] for kind in wish.kinds}
    clusters: dict[str, tuple[str, str]] = {}
    wide, near = len(str(len(pods))), len(str(wish.s1_per_s2))
    for number, turn in enumerate(dice.permutation(len(pods))):
        cluster = number // wish.s2_per_cluster
        site = cluster // wish.clusters_per_site
        name = f"cluster-{cluster + 1}"
        clusters[name] = (f"site-{site + 1}", f"vdc-{site // wish.sites_per_vdc + 1}")
        for place, s1 in enumerate(pods[turn]):
            s2_name = f"{number + 1:0{wide}d}"
            s1_name = f"minipod-{s2_name}-{place + 1:0{near}d}"
            for kind, count in s1.items():
                stands[kind].append(Stand(count, s1_name, f"bigpod-{s2_name}", name))
    there = {kind: tuple(places) for kind, places in stands.items()}
    return Inventory(wish, there, clusters, tuple(_faults(wish, dice)))


class _Dealer:
    """The nodes that have no place yet."""

    def __init__(self, wish: Wish, dice: np.random.Generator) -> None:
        self._wish, self._dice = wish, dice
        self._left = {kind: kind.nodes for kind in wish.kinds}

    def deal(self) -> list[list[S1]]:
        """Return S2 domains, each a list of its S1 domains."""
        mixed = [self._mixed(number) for number in self._mixed_s1s()]
        return [pod for pod in mixed if pod] + [
            pod for kind in self._wish.kinds for pod in self._plain(kind)
        ]

    def _mixed_s1s(self) -> list[int]:
        """Return how many mixed S1 each mixed S2 has: as even as can be."""
        pods = self._wish.s2s_mixed
        if not pods:
            return []
        each, more = divmod(self._wish.s1s_mixed, pods)
        return [each + (number < more) for number in range(pods)]

    def _mixed(self, mixed_s1s: int) -> list[S1]:
        """Return one S2 of two GPU types, ``mixed_s1s`` of its S1 with both."""
        pair = self._pair()
        if pair is None:
            return []
        number = self._wish.s1_per_s2
        both = set(self._dice.permutation(number)[:mixed_s1s].tolist())
        alone = [place for place in range(number) if place not in both]
        # With each type in an S1 of its own at least, where there are two such.
        turns = dict(zip(alone, self._turns(pair, len(alone)), strict=True))
        found = []
        for place in range(number):
            size = self._size()
            if place in both:
                first = min(max(round(size * float(self._dice.choice(PARTS))), 1), size - 1)
                found.append(self._take({pair[0]: first, pair[1]: max(size - first, 1)}))
            else:
                found.append(self._take({turns[place]: size}))
        return [s1 for s1 in found if s1]

    def _pair(self) -> tuple[Kind, Kind] | None:
        """Draw two kinds of different types by what is left of them; None: one type is left."""
        first = self._draw(list(self._left))
        rest = [kind for kind in self._left if first and kind.gpu_type != first.gpu_type]
        second = self._draw(rest)
        return None if first is None or second is None else (first, second)

    def _turns(self, pair: tuple[Kind, Kind], number: int) -> list[Kind]:
        weights = np.array([max(self._left[kind], 1) for kind in pair], dtype=float)
        drawn = self._dice.choice(2, size=max(number - 2, 0), p=weights / weights.sum())
        return [*pair, *(pair[index] for index in drawn)][:number]

    def _draw(self, kinds: list[Kind]) -> Kind | None:
        weights = np.array([self._left[kind] for kind in kinds], dtype=float)
        if not weights.sum():
            return None
        return kinds[int(self._dice.choice(len(kinds), p=weights / weights.sum()))]

    def _plain(self, kind: Kind) -> Iterator[list[S1]]:
        """Yield S2 domains of what is left of a kind."""
        while self._left[kind]:
            pod: list[S1] = []
            while self._left[kind] and len(pod) < self._wish.s1_per_s2:
                pod.append(self._take({kind: self._size()}))
            yield pod

    def _size(self) -> int:
        """Draw how many nodes a switch has; two at least, that it may be mixed, if it has the ports."""
        ports = self._wish.ports
        empty = int(self._dice.binomial(ports, self._wish.empty_ports))
        return max(ports - empty, min(2, ports))

    def _take(self, wanted: S1) -> S1:
        """Take nodes, or what is left of them."""
        given = {kind: min(count, self._left[kind]) for kind, count in wanted.items()}
        for kind, count in given.items():
            self._left[kind] -= count
        return {kind: count for kind, count in given.items() if count}


def _faults(wish: Wish, dice: np.random.Generator) -> Iterator[Fault]:
    for kind in wish.kinds:
        width = len(str(kind.nodes))
        down = dice.random(kind.nodes) < wish.down
        gpus = dice.random((kind.nodes, kind.gpus)) < wish.broken_gpus
        links = dice.random((kind.nodes, wish.links)) < wish.links_down
        for index in np.flatnonzero(down | gpus.any(axis=1) | links.any(axis=1)):
            host = f"{kind.pool}-{int(index) + 1:0{width}d}"
            if down[index]:
                yield Fault(host, down=True)
            else:
                yield Fault(host, gpus=_which(gpus[index]), links=_which(links[index]))


def _which(flags: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(flags))
