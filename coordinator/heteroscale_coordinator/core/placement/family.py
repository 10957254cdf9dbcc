"""Domains of a level by what they are made of, each kind in the order of its free GPUs.

So that a placement looks only at the few that can win: it knows the best that any domain of a family
could give, and where in the family those with room enough begin.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.shape import Strain
from heteroscale_coordinator.core.topology import Path, sub_cluster_in

_Kin = tuple[str, frozenset[Strain]]


class Family:
    """Domains of one sub-cluster whose nodes are of the same strains."""

    __slots__ = ("bounds", "members", "strains", "sub_cluster")

    def __init__(self, sub_cluster: str, strains: frozenset[Strain]) -> None:
        self.sub_cluster, self.strains = sub_cluster, strains
        self.members: list[tuple[int, Path]] = []
        """Free GPUs and path, in that order."""
        self.bounds: dict[Any, Any] = {}
        """The best it could give to an ask, by the ask's kind."""

    def from_room(self, gpus: int) -> int:
        """Return the place of the first domain with so many free GPUs."""
        return bisect_left(self.members, (gpus,))


class Index:
    """The domains of one level."""

    def __init__(self) -> None:
        self._families: dict[_Kin, Family] = {}
        self.cells: dict[Path, Cell] = {}
        self._where: dict[Path, tuple[Family, int]] = {}
        self._paths: list[Path] | None = None

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())

    def __len__(self) -> int:
        return len(self.cells)

    def paths(self) -> list[Path]:
        """Return the domains' paths in order."""
        if self._paths is None:
            self._paths = sorted(self.cells)
        return self._paths

    def file(self, cell: Cell) -> None:
        """Put a domain where it belongs, newly or again."""
        where = self._where.get(cell.path)
        family = cell.family
        if where is None:
            self.cells[cell.path] = cell
            self._paths = None
        elif family is where[0] and where[1] == cell.room:
            return
        else:
            self._leave(*where, cell.path)
        if family is None:
            kin = sub_cluster_in(cell.path), frozenset(cell.strains)
            family = cell.family = self._families.get(kin) or Family(*kin)
        self._families[family.sub_cluster, family.strains] = family
        insort(family.members, (cell.room, cell.path))
        self._where[cell.path] = family, cell.room

    def drop(self, cell: Cell) -> None:
        """Forget a domain that is no more."""
        family, room = self._where.pop(cell.path)
        self._leave(family, room, cell.path)
        del self.cells[cell.path]
        self._paths = None

    def _leave(self, family: Family, room: int, path: Path) -> None:
        del family.members[bisect_left(family.members, (room, path))]
        if not family.members:
            del self._families[family.sub_cluster, family.strains]
