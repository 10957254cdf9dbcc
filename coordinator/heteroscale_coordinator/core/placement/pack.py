"""Fit: seat a whole step on the nodes of one domain, or not at all.

Rank by rank, the most constrained first, each on the best node; at a dead end the search steps back.
Nodes that look alike are interchangeable, so only one of each shape is tried, and a state that has
failed once is not entered again. Within the patience given the search is exact; beyond it, greedy.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.feasible import Bench, preference
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_coordinator.core.topology import Path, SubgroupClass


class Seat(NamedTuple):
    """One rank on its node."""

    role: Role
    rank: int
    agent_id: str
    gpu_type: str


@dataclass(slots=True)
class Patience:
    """How many steps back a whole placement may still take; shared by all its searches."""

    steps_back: int = 2000

    @property
    def spent(self) -> bool:
        """Whether a search may have been cut short."""
        return self.steps_back <= 0


class _Item(NamedTuple):
    role: Role
    spec: RoleSpec
    rank: int


class _Shape(NamedTuple):
    """All that the search looks at in a node."""

    subgroup: SubgroupClass
    near: Path
    roles: frozenset[Role]
    free: tuple[tuple[str, int], ...]


class _Option(NamedTuple):
    """A node for one rank. The smallest is the best, field by field."""

    preference: int
    apart: bool
    subgroup: SubgroupClass
    left_over: int
    agent_id: str
    gpu_type: str


_Dead = tuple[int, frozenset[tuple[_Shape, int]]]


def pack(
    roles: Mapping[Role, RoleSpec], counts: Counts, benches: Sequence[Bench], patience: Patience
) -> tuple[Seat, ...] | None:
    """Return a seat for every rank of ``counts``, an instance's ranks in order; None: no room."""
    search = _Search(_items(roles, counts), benches)
    return search.run(patience)


def _items(roles: Mapping[Role, RoleSpec], counts: Counts) -> list[_Item]:
    def constrained_first(role: Role) -> tuple[float, int, str]:
        spec = roles[role]
        return (len(spec.gpu_types) or float("inf"), -spec.gpus * spec.ranks, role)

    return [
        _Item(role, roles[role], rank)
        for role in sorted(counts, key=constrained_first)
        for _ in range(counts[role])
        for rank in range(roles[role].ranks)
    ]


class _Search:
    """Depth-first over the ranks, with an explicit stack: a step may have thousands of them."""

    def __init__(self, items: list[_Item], benches: Sequence[Bench]) -> None:
        self._items = items
        self._seats: list[Seat] = []
        self._shapes: dict[str, _Shape] = {}
        self._alike: dict[_Shape, list[str]] = {}
        self._dead: set[_Dead] = set()
        spread = any(item.rank for item in items)
        for bench in benches:
            # The S1 matters only where ranks of one instance should stand together.
            near = bench.near if spread else ()
            free = tuple((gpu_type, len(indices)) for gpu_type, indices in bench.free.items())
            self._put(bench.agent_id, _Shape(bench.subgroup, near, bench.roles, free))

    def run(self, patience: Patience) -> tuple[Seat, ...] | None:
        """Return all seats, or None with everything rolled back."""
        open_options: list[Iterator[_Option]] = []
        while len(self._seats) < len(self._items):
            if len(open_options) == len(self._seats):
                open_options.append(self._options())
            option = next(open_options[-1], None)
            if option is not None:
                self._take(option)
                continue
            open_options.pop()
            self._bury()
            if not self._seats or patience.spent:
                return None
            patience.steps_back -= 1
            self._give_back()
        return tuple(self._seats)

    def _options(self) -> Iterator[_Option]:
        """Return the nodes for the next rank, the best first."""
        index = len(self._seats)
        item = self._items[index]
        if item.rank == 0 and self._dead and self._state() in self._dead:
            return iter(())
        mates = self._seats[index - item.rank : index]
        found = [
            option
            for shape, agents in self._alike.items()
            if item.role in shape.roles
            for option in self._of_shape(item, mates, shape, agents)
        ]
        return iter(sorted(found))

    def _of_shape(
        self, item: _Item, mates: Sequence[Seat], shape: _Shape, agents: Sequence[str]
    ) -> Iterator[_Option]:
        used = {mate.agent_id for mate in mates}
        agent_id = next((agent for agent in agents if agent not in used), None)
        if agent_id is None:
            return
        for gpu_type, free in shape.free:
            rank = preference(item.spec, gpu_type)
            unlike = bool(mates) and gpu_type != mates[0].gpu_type
            if rank is None or unlike or free < item.spec.gpus:
                continue
            apart = self._apart(item, mates, shape.near, gpu_type)
            left_over = free - item.spec.gpus
            yield _Option(rank, apart, shape.subgroup, left_over, agent_id, gpu_type)

    def _apart(self, item: _Item, mates: Sequence[Seat], near: Path, gpu_type: str) -> bool:
        """Whether a rank in this S1 tears its instance apart."""
        if mates:
            return near != self._shapes[mates[0].agent_id].near
        if item.spec.ranks == 1:
            return False
        fitting = sum(
            len(agents)
            for shape, agents in self._alike.items()
            if shape.near == near
            and item.role in shape.roles
            and dict(shape.free).get(gpu_type, 0) >= item.spec.gpus
        )
        return fitting < item.spec.ranks

    def _take(self, option: _Option) -> None:
        item = self._items[len(self._seats)]
        self._seats.append(Seat(item.role, item.rank, option.agent_id, option.gpu_type))
        self._change(option.agent_id, option.gpu_type, -item.spec.gpus)

    def _give_back(self) -> None:
        seat = self._seats.pop()
        self._change(seat.agent_id, seat.gpu_type, self._items[len(self._seats)].spec.gpus)

    def _bury(self) -> None:
        if self._items[len(self._seats)].rank == 0:
            self._dead.add(self._state())

    def _state(self) -> _Dead:
        alike = Counter({shape: len(agents) for shape, agents in self._alike.items()})
        return len(self._seats), frozenset(alike.items())

    def _change(self, agent_id: str, gpu_type: str, by: int) -> None:
        old = self._shapes[agent_id]
        free = tuple((name, n + by if name == gpu_type else n) for name, n in old.free)
        agents = self._alike[old]
        agents.remove(agent_id)
        if not agents:
            del self._alike[old]
        self._put(agent_id, old._replace(free=free))

    def _put(self, agent_id: str, shape: _Shape) -> None:
        self._shapes[agent_id] = shape
        insort(self._alike.setdefault(shape, []), agent_id)
