"""The view of the fleet that the turn keeps, and which nodes of it must be read anew before it is used.

Whoever changes what placement sees of a node says so here. What a draft writes is seen by its own turn
alone: at its end the nodes it wrote are shown as the state has them, and they are read anew in the next
turn too. Between turns, whether the draft was committed or dropped, readers see what was committed when
the turn began.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from heteroscale_coordinator.core.placement import ClassChange, FleetView, Fragments
from heteroscale_coordinator.core.topology import SubgroupClass

KEPT_CHANGES = 256


class NotedChange(NamedTuple):
    """A change of RDMA subgroup class."""

    at: float
    """When it was seen."""
    change: ClassChange
    cause: str
    """Which node came, went or changed, in words."""


@dataclass(slots=True)
class Seen:
    """What is seen of the fleet's nodes."""

    view: FleetView = field(default_factory=FleetView)
    stale: set[str] = field(default_factory=set)
    """Agents whose nodes are to be read anew."""
    drafted: set[str] = field(default_factory=set)
    """Agents whose nodes the last turn's draft changed."""
    ahead: set[str] = field(default_factory=set)
    """Agents whose nodes are seen as a draft has them."""
    begun: bool = False
    """Whether the nodes that were there before are among the stale ones."""
    whole: bool = False
    """Whether all nodes have been read once."""
    changes: deque[NotedChange] = field(default_factory=lambda: deque(maxlen=KEPT_CHANGES))
    """The last changes of RDMA subgroup class since then."""
    change_counts: Counter[tuple[SubgroupClass, SubgroupClass]] = field(default_factory=Counter)
    """How many domains changed since then, by their class before and after."""
    fragments: Mapping[str, Fragments] = field(default_factory=dict)
    """How the free GPUs of each type lay after the last turn; nothing before the whole was read."""
    _told: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    _vendors: Counter[tuple[str, str]] = field(default_factory=Counter)

    def touch(self, agent_id: str) -> None:
        """Note that what was heard of a node has changed."""
        self.stale.add(agent_id)

    def write(self, agent_id: str) -> None:
        """Note that a draft changes a node."""
        self.stale.add(agent_id)
        self.drafted.add(agent_id)

    def begin_turn(self) -> None:
        """Read anew what the last turn wrote: it may have been dropped."""
        self.stale |= self.drafted
        self.drafted.clear()

    def note(self, now: float, changes: Iterable[ClassChange], cause: str = "") -> None:
        """Keep changes of class and what made them; before the whole fleet was read they say nothing."""
        if not self.whole:
            return
        for change in changes:
            self.changes.append(NotedChange(now, change, cause))
            self.change_counts[change.before, change.after] += 1

    # ---- vendors -----------------------------------------------------------------------------

    def tell(self, agent_id: str, vendors: Iterable[tuple[str, str]]) -> None:
        """Note a node's GPU types with their vendors, each pair once; nothing forgets the node."""
        told = tuple(sorted(set(vendors)))
        before = self._told.get(agent_id, ())
        if told == before:
            return
        self._vendors.subtract(before)
        self._vendors.update(told)
        for pair in before:
            if not self._vendors[pair]:
                del self._vendors[pair]
        if told:
            self._told[agent_id] = told
        else:
            del self._told[agent_id]

    def vendors(self) -> dict[str, str]:
        """Return the vendor of each GPU type, what most nodes tell; empty where all are of one."""
        found: dict[str, str] = {}
        if len({vendor for _, vendor in self._vendors}) > 1:
            by_weight = sorted(self._vendors.items(), key=lambda pair: (pair[1], pair[0]))
            found.update({kind: vendor for (kind, vendor), _ in by_weight})
        return found
