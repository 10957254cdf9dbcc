"""Fit: seat a whole step on the nodes of one domain, or not at all.

Rank by rank, the most constrained first, each on the best node; at a dead end the search steps back.
Nodes that look alike are interchangeable, so only one of each look is tried, and a state that has
failed once is not entered again. Within the patience given the search is exact; beyond it, greedy.
What needs no step back, nearly everything, is seated without the search, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.placement.feasible import hopeless
from heteroscale_coordinator.core.placement.hand import Hand, Look, Seat, first_but
from heteroscale_coordinator.core.placement.kind import Kind, Part, Parts
from heteroscale_coordinator.core.topology import Path, SubgroupClass


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
    kind: Kind
    rank: int


class _Option(NamedTuple):
    """A node for one rank. The smallest is the best, field by field."""

    shunned: bool
    preference: int
    apart: bool
    subgroup: SubgroupClass
    left_over: int
    agent_id: str
    gpu_type: str
    look: Look
    """Never compared: a node has one look, and all of it is told by then."""


_Dead = tuple[int, frozenset[tuple[Look, int]]]


def pack(parts: Parts, hand: Callable[[], Hand], patience: Patience) -> tuple[Seat, ...] | None:
    """Return a seat for every rank of the parts, an instance's ranks in order; None: no room.

    ``hand`` deals the nodes, anew each time it is asked.
    """
    seats = _straight(parts, hand())
    if seats is not None:
        return tuple(seats)
    again = hand()
    return None if hopeless(parts, again) else _Search(parts, again).run(patience)


# ---- straight ahead --------------------------------------------------------------------------


def _straight(parts: Parts, hand: Hand) -> list[Seat] | None:
    seats: list[Seat] = []
    for part in parts:
        found = (_singles if part.kind.ranks == 1 else _instances)(part, hand)
        if found is None:
            return None
        seats += found
    return seats


_Fields = tuple[bool, int, bool, SubgroupClass, int, str, str]
"""Those of an option by which it is compared."""
_Entry = tuple[bool, int, SubgroupClass, int, str, str, int, Look]


def _singles(part: Part, hand: Hand) -> list[Seat] | None:
    """Seat instances of one rank: the best node each time, kept in a heap that is mended as it ages."""
    role, kind, number = part
    serial = count()
    heap: list[_Entry] = [
        (
            *(one.shunned, one.preference, look[1].subgroup, one.left_over),
            *(agents[0], one.gpu_type, next(serial), look),
        )
        for look, agents in hand.pools.items()
        for one in look[1].choices(kind)
    ]
    heapify(heap)
    seats: list[Seat] = []
    while number:
        top = _valid_top(heap, hand)
        if top is None:
            return None
        shunned, preference, subgroup, left_over, agent_id, gpu_type, _, look = top
        # With one on it the node fits better still: it takes all it can before another is the best.
        more = min(number, 1 + left_over // kind.gpus)
        number -= more
        seat = Seat(role, 0, agent_id, gpu_type, kind.gpus, preference, subgroup, shunned, look)
        seats += [seat] * more
        after = hand.take(look, agent_id, gpu_type, more * kind.gpus)
        if hand.pools[after][0] == agent_id:
            for one in after[1].choices(kind):
                heappush(
                    heap,
                    (
                        *(one.shunned, one.preference, subgroup, one.left_over),
                        *(agent_id, one.gpu_type, next(serial), after),
                    ),
                )
    return seats


def _valid_top(heap: list[_Entry], hand: Hand) -> _Entry | None:
    """Return the best entry that is still true: its node is the first of its look."""
    while heap:
        top = heap[0]
        agents = hand.pools.get(top[7])
        if not agents:
            heappop(heap)
        elif agents[0] != top[4]:
            heapreplace(heap, (*top[:4], agents[0], *top[5:]))
        else:
            return top
    return None


def _instances(part: Part, hand: Hand) -> list[Seat] | None:
    """Seat instances of several ranks, rank by rank: the first the best, its mates beside it."""
    seats: list[Seat] = []
    firsts = _Firsts(part.kind, hand)
    for _ in range(part.instances):
        mates: list[Seat] = []
        for rank in range(part.kind.ranks):
            item = _Item(part.role, part.kind, rank)
            best = firsts.beside(item, mates) if mates else firsts.best()
            if best is None:
                return None
            mates.append(_seat(item, best))
            firsts.take(best)
        seats += mates
    return seats


class _Firsts:
    """The best nodes for first ranks, kept in a heap that is mended as it ages; and the S1 of each."""

    def __init__(self, kind: Kind, hand: Hand) -> None:
        self._kind, self._hand, self._serial = kind, hand, count()
        self._fitting: dict[tuple[Path, str], int] = {}
        self._near: dict[Path, dict[Look, None]] = {}
        for look, agents in hand.pools.items():
            self._add(look, len(agents))
        self._heap = [entry for look in hand.pools for entry in self._entries(look)]
        heapify(self._heap)

    def best(self) -> _Option | None:
        """Return the best node for a first rank."""
        while self._heap:
            fields, _, look = self._heap[0]
            agents = self._hand.pools.get(look)
            if not agents:
                heappop(self._heap)
                continue
            shunned, preference, _, subgroup, left_over, _, gpu_type = fields
            apart = self._apart(look, gpu_type)
            true = (shunned, preference, apart, subgroup, left_over, agents[0], gpu_type)
            if true == fields:
                return _Option(*true, look)
            heapreplace(self._heap, (true, next(self._serial), look))
        return None

    def beside(self, item: _Item, mates: Sequence[Seat]) -> _Option | None:
        """Return the best node for a mate: in the same S1 if there is one, else anywhere."""
        pools = self._hand.pools
        looks = [look for look in self._near[mates[0].look[0]] if look in pools]
        close = min(_options(item, mates, {look: pools[look] for look in looks}), default=None)
        return close or min(_options(item, mates, pools), default=None)

    def take(self, option: _Option) -> None:
        """Seat a rank."""
        look, gpus = option.look, self._kind.gpus
        after = self._hand.take(look, option.agent_id, option.gpu_type, gpus)
        self._add(look, -1)
        self._add(after, +1)
        if self._hand.pools[after][0] == option.agent_id:
            for entry in self._entries(after):
                heappush(self._heap, entry)

    def _add(self, look: Look, nodes: int) -> None:
        near, shape = look
        self._near.setdefault(near, {})[look] = None
        for one in shape.choices(self._kind):
            key = near, one.gpu_type
            self._fitting[key] = self._fitting.get(key, 0) + nodes

    def _apart(self, look: Look, gpu_type: str) -> bool:
        """Whether a first rank there would be torn from its mates."""
        return self._fitting[look[0], gpu_type] < self._kind.ranks

    def _entries(self, look: Look) -> Iterator[tuple[_Fields, int, Look]]:
        first, shape = self._hand.pools[look][0], look[1]
        for one in shape.choices(self._kind):
            apart = self._apart(look, one.gpu_type)
            yield (
                (
                    *(one.shunned, one.preference, apart, shape.subgroup),
                    *(one.left_over, first, one.gpu_type),
                ),
                next(self._serial),
                look,
            )


def _seat(item: _Item, option: _Option) -> Seat:
    return Seat(
        role=item.role,
        rank=item.rank,
        agent_id=option.agent_id,
        gpu_type=option.gpu_type,
        gpus=item.kind.gpus,
        preference=option.preference,
        subgroup=option.subgroup,
        shunned=option.shunned,
        look=option.look,
    )


def _options(
    item: _Item, mates: Sequence[Seat], pools: Mapping[Look, list[str]]
) -> Iterator[_Option]:
    """Yield the nodes for a rank beside its mates, one of each look."""
    used = {mate.agent_id for mate in mates}
    crowded = _crowded(item, pools) if item.rank == 0 and item.kind.ranks > 1 else None
    for look, agents in pools.items():
        near, shape = look
        choices = shape.choices(item.kind)
        agent_id = first_but(agents, used) if choices else None
        if agent_id is None:
            continue
        for one in choices:
            if mates and one.gpu_type != mates[0].gpu_type:
                continue
            if mates:
                apart = near != mates[0].look[0]
            else:
                apart = crowded is not None and (near, one.gpu_type) in crowded
            yield _Option(
                *(one.shunned, one.preference, apart, shape.subgroup, one.left_over),
                *(agent_id, one.gpu_type, look),
            )


def _crowded(item: _Item, pools: Mapping[Look, list[str]]) -> set[tuple[Path, str]]:
    """Return the S1 domains and types where a first rank would be torn from its mates."""
    fitting: dict[tuple[Path, str], int] = {}
    for (near, shape), agents in pools.items():
        for one in shape.choices(item.kind):
            key = near, one.gpu_type
            fitting[key] = fitting.get(key, 0) + len(agents)
    return {key for key, nodes in fitting.items() if nodes < item.kind.ranks}


# ---- the search ------------------------------------------------------------------------------


class _Search:
    """Depth-first over the ranks, with an explicit stack: a step may have thousands of them."""

    def __init__(self, parts: Parts, hand: Hand) -> None:
        self._items = [
            _Item(part.role, part.kind, rank)
            for part in parts
            for _ in range(part.instances)
            for rank in range(part.kind.ranks)
        ]
        self._hand = hand
        self._seats: list[Seat] = []
        self._dead: set[_Dead] = set()

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
        return iter(sorted(_options(item, mates, self._hand.pools)))

    def _take(self, option: _Option) -> None:
        item = self._items[len(self._seats)]
        self._seats.append(_seat(item, option))
        self._hand.take(option.look, option.agent_id, option.gpu_type, item.kind.gpus)

    def _give_back(self) -> None:
        seat = self._seats.pop()
        near, shape = seat.look
        self._hand.take(
            (near, shape.less(seat.gpu_type, seat.gpus)), seat.agent_id, seat.gpu_type, -seat.gpus
        )

    def _bury(self) -> None:
        if self._items[len(self._seats)].rank == 0:
            self._dead.add(self._state())

    def _state(self) -> _Dead:
        alike = {look: len(agents) for look, agents in self._hand.pools.items()}
        return len(self._seats), frozenset(alike.items())
