"""The nodes of a domain while a step is tried on them: what is taken is taken here alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.kind import Parts
from heteroscale_coordinator.core.placement.shape import Shape
from heteroscale_coordinator.core.topology import Path, SubgroupClass

Look = tuple[Path, Shape]
"""All that a search sees of a node. The S1 is told only where ranks should stand together in one."""


class Seat(NamedTuple):
    """One rank on its node."""

    role: Role
    rank: int
    agent_id: str
    gpu_type: str
    gpus: int
    preference: int
    """Place of the type in the role's order."""
    subgroup: SubgroupClass
    shunned: bool
    """The node would rather not take it."""
    look: Look
    """The node's before the rank was seated, or its first mate there."""


class Hand:
    """Nodes by look. Their lists are the domain's own until something is taken from one."""

    __slots__ = ("_mine", "pools")

    def __init__(self, pools: dict[Look, list[str]]) -> None:
        self.pools = pools
        self._mine: set[Look] = set()

    def take(self, look: Look, agent_id: str, gpu_type: str, gpus: int) -> Look:
        """Take GPUs of a node, or give back a negative number, and return how it looks then."""
        near, shape = look
        after = (near, shape.less(gpu_type, gpus))
        agents = self._own(look)
        del agents[bisect_left(agents, agent_id)]
        if not agents:
            del self.pools[look]
        insort(self._own(after), agent_id)
        return after

    def _own(self, look: Look) -> list[str]:
        agents = self.pools.get(look)
        if agents is None:
            agents = self.pools[look] = []
            self._mine.add(look)
        elif look not in self._mine:
            agents = self.pools[look] = agents.copy()
            self._mine.add(look)
        return agents

    def without(self, seats: Iterable[Seat]) -> None:
        """Take what the seats take, wherever their nodes are."""
        wanted = {seat.agent_id for seat in seats}
        looks = {
            agent: look
            for look, agents in self.pools.items()
            for agent in (wanted.intersection(agents) if len(agents) > 1 else agents)
            if agent in wanted
        }
        for seat in seats:
            look = looks[seat.agent_id]
            looks[seat.agent_id] = self.take(look, seat.agent_id, seat.gpu_type, seat.gpus)


def first_but(agents: Iterable[str], used: Collection[str]) -> str | None:
    """Return the first of the agents that is not used."""
    return next((agent for agent in agents if agent not in used), None)


def deal(cell: Cell, parts: Parts) -> Hand:
    """Return the nodes of a domain for a step."""
    spread = any(part.kind.ranks > 1 for part in parts)
    if not spread or cell.level == "s1":
        return Hand({((), shape): agents for shape, agents in cell.shapes.items()})
    nears: Mapping[Path, Cell] = cell.nears
    return Hand(
        {
            (near, shape): agents
            for near, inner in nears.items()
            for shape, agents in inner.shapes.items()
        }
    )
