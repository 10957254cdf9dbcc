"""The facts of one placement: the view, the kin, and what has been tried in which domain.

A search deducts virtually and rolls back; nothing here changes the view. Answers are kept with the
domains they are of until those change, so that the next ask looks only at domains that did.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.family import Family
from heteroscale_coordinator.core.placement.feasible import short
from heteroscale_coordinator.core.placement.hand import Hand, Seat, deal
from heteroscale_coordinator.core.placement.kind import Parts, gpus_of
from heteroscale_coordinator.core.placement.pack import Patience, pack
from heteroscale_coordinator.core.placement.rank import (
    Bound,
    Candidate,
    Fit,
    Order,
    Want,
    beside,
    best_of,
    bound_of,
    fit_of,
    order_of,
)
from heteroscale_coordinator.core.placement.values import Ask, Standing
from heteroscale_coordinator.core.topology import Path, sub_cluster_in

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.view import FleetView

_INNER = {Role.ATTENTION, Role.FFN}
_KEPT = 512
"""Answers kept of one domain, or bounds of one family; beyond, all are forgotten at once."""

Kin = Mapping[Path, dict[Role, int]]
_Pair = tuple[Order, Candidate]
Ranked = list[_Pair]


class _Kept(NamedTuple):
    """An answer of packing, true while the domain's stamp is the same."""

    stamp: int
    fit: Fit | None
    steps_back: int
    """What it cost."""
    spent: bool
    """It may have been cut short: with more patience it must be asked again."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a placement stands on. Made by ``survey``."""

    view: FleetView
    ask: Ask
    standing: Sequence[Standing]
    totals: Counts
    """Instances of the service once the whole step stands."""
    peer: Role | None
    """The peer beside which a lone-role ask must stand, because it stands somewhere."""
    patience: Patience = field(default_factory=Patience)
    units: int = 1
    """Into so many units the step is cut at most."""
    _kin: dict[str, Kin] = field(default_factory=dict)
    _tried: dict[Path, tuple[Want, Candidate | None, _Pair | None]] = field(default_factory=dict)
    """What came of the last unit that was tried in a domain, on what was there before."""

    def parts(self, counts: Counts) -> Parts:
        """Return the parts of a step, as packing wants them."""
        tolerations = self.ask.placement.tolerations
        return self.view.kinds.parts(self.ask.roles, counts, tolerations)

    @property
    def halved(self) -> bool:
        """Whether one half of a split prefill comes alone, and its other half stands somewhere."""
        return self.peer in _INNER and _INNER.issuperset(self.ask.delta)

    @property
    def enough(self) -> bool:
        """Whether the whole fleet has the GPUs for the step, wherever they are; False is certain."""
        parts, cells = self.parts(self.ask.delta), self.view.indexes["cluster"].cells
        here = (cell for path, cell in cells.items() if self.offers(path))
        return not short(parts, [pool for cell in here for pool in cell.shapes.items()])

    def offers(self, path: Path) -> bool:
        """Return whether a domain is in a sub-cluster that may be used."""
        return self.ask.within is None or sub_cluster_in(path) in self.ask.within

    # ---- fit ---------------------------------------------------------------------------------

    def fit(self, cell: Cell, parts: Parts) -> Fit | None:
        """Return a place for the parts in one domain, or None; the same question is searched once."""
        kept: _Kept | None = cell.fits.get(parts)
        if kept is not None and kept.stamp == cell.stamp:
            enough = kept.steps_back <= self.patience.steps_back
            if enough and not (kept.spent and kept.steps_back < self.patience.steps_back):
                # Patience is spent as if it had been searched: answers do not depend on the past.
                self.patience.steps_back -= kept.steps_back
                return kept.fit
        before = self.patience.steps_back
        seats = self._seated(cell, parts)
        fit = None if seats is None else fit_of(seats)
        if len(cell.fits) >= _KEPT:
            cell.fits.clear()
        cost = before - self.patience.steps_back
        cell.fits[parts] = _Kept(cell.stamp, fit, cost, self.patience.spent)
        return fit

    def _seated(self, cell: Cell, parts: Parts) -> tuple[Seat, ...] | None:
        """Return seats for the parts; in an S2, attention and ffn in one S1 of it (paper §4).

        In a cluster too if that can be; it is the last resort of nodes that name no S1.
        """
        if cell.level == "s1" or not {part.role for part in parts} >= _INNER:
            return self._loose(cell, parts)
        inner = tuple(part for part in parts if part.role in _INNER)
        others = tuple(part for part in parts if part.role not in _INNER)
        for path in sorted(cell.nears):
            near = cell.nears[path]
            first = pack(inner, partial(deal, near, inner), self.patience)
            if first is None:
                continue
            rest = pack(others, partial(_left, cell, others, first), self.patience)
            if rest is not None:
                return (*first, *rest)
        return self._loose(cell, parts) if cell.level == "cluster" else None

    def _loose(self, cell: Cell, parts: Parts) -> tuple[Seat, ...] | None:
        return pack(parts, partial(deal, cell, parts), self.patience)

    # ---- kin ---------------------------------------------------------------------------------

    def kin(self, level: str) -> Kin:
        """Count the service's instances by domain, those not on their way out and not torn apart."""
        found = self._kin.get(level)
        if found is None:
            counts: dict[Path, dict[Role, int]] = {}
            for one in self.standing:
                if one.withdrawn:
                    continue
                homes = {self.view.domain_of(agent, level) for agent in one.agent_ids}
                home = homes.pop() if len(homes) == 1 else None
                if home is not None:
                    here = counts.setdefault(home.path, {})
                    here[one.role] = here.get(one.role, 0) + 1
            found = self._kin[level] = counts
        return found

    # ---- candidates --------------------------------------------------------------------------

    def ranked(
        self, level: str, want: Want, before: Mapping[Path, Candidate], said: int
    ) -> tuple[Ranked, int]:
        """Return the best domains for a unit, with ``said`` behind the first, and how many more may do.

        ``before`` is what the step already puts where.
        """
        kin, peer = self.kin(level), self.peer
        index = self.view.indexes[level]
        special = {path for path in (*kin, *before) if path in index.cells and self.offers(path)}
        if peer is not None:
            special = {path for path in special if kin.get(path, {}).get(peer)}
        there = [self._try(want, index.cells[path], before.get(path)) for path in sorted(special)]
        fits = [pair for pair in there if pair is not None]
        found = sorted(fits, key=_order) if said else [min(fits, key=_order)] if fits else []
        if peer is not None:
            return found[: said + 1], max(0, len(found) - said - 1)
        return found, self._others(level, want, special, found, said)

    def _try(self, want: Want, cell: Cell, had: Candidate | None) -> _Pair | None:
        """Return a domain with a unit on what it had; the same is not searched twice in a row."""
        known = self._tried.get(cell.path)
        if known is not None and known[0] is want and known[1] is had:
            return known[2]
        counts = want.counts if had is None else _add(had.counts, want.counts)
        fit = self.fit(cell, self.parts(counts))
        found = None
        if fit is not None:
            candidate = Candidate(cell, counts, fit, self.kin(cell.level).get(cell.path, {}))
            found = order_of(want, candidate, had), candidate
        self._tried[cell.path] = want, had, found
        return found

    def _others(self, level: str, want: Want, special: set[Path], found: Ranked, said: int) -> int:
        """Add the best domains without kin: those that could be best are tried, best bound first.

        Only the winner is sought at any price: behind it as many are tried as are told of.
        """
        parts, cells = self.parts(want.counts), self.view.indexes[level].cells
        lines = [line for line in self._lines(level, want, parts) if line.open]
        possible = sum(line.left for line in lines)
        heap = [(line.best, number, line) for number, line in enumerate(lines)]
        heapify(heap)
        spare = said
        while heap:
            bound, number, line = heap[0]
            settled = bool(found) and found[0][0] <= bound
            if settled and (spare <= 0 or (len(found) > said and found[said][0] <= bound)):
                break
            line.step()
            if line.open:
                heapreplace(heap, (line.best, number, line))
            else:
                heappop(heap)
            possible -= 1
            if bound.path not in special:
                spare -= settled
                if pair := self._try(want, cells[bound.path], None):
                    insort(found, pair, key=_order)
        possible += max(0, len(found) - said - 1)
        del found[said + 1 :]
        return possible

    def _lines(self, level: str, want: Want, parts: Parts) -> Iterator[_Line]:
        within = self.ask.within
        for family in self.view.indexes[level]:
            if within is not None and family.sub_cluster not in within:
                continue
            if parts not in family.bounds:
                if len(family.bounds) >= _KEPT:
                    family.bounds.clear()
                family.bounds[parts] = bound_of(parts, family)
            bound = family.bounds[parts]
            if bound is not None:
                yield _Line(want, parts, family, bound)


class _Line:
    """The domains of a family that have room enough, the best first."""

    def __init__(self, want: Want, parts: Parts, family: Family, bound: Bound) -> None:
        self._want, self._parts, self._bound = want, parts, bound
        self._family, self._members = family, family.members
        start = family.from_room(gpus_of(parts))
        self.left = len(self._members) - start
        self._at = self._first_alike(len(self._members) - 1) if want.widest_first else start

    @property
    def open(self) -> bool:
        return self.left > 0

    @property
    def best(self) -> Order:
        room, path = self._members[self._at]
        return best_of(self._want, self._parts, self._bound, room, path)

    def step(self) -> None:
        self.left -= 1
        room, at = self._members[self._at][0], self._at + 1
        if self._want.widest_first and (at == len(self._members) or self._members[at][0] != room):
            # Those with as much room are done, in the order of their paths: on to those with less.
            at = self._first_alike(self._family.from_room(room) - 1)
        self._at = at

    def _first_alike(self, at: int) -> int:
        """Return the place of the first domain with as much room as the one at ``at``."""
        return self._family.from_room(self._members[at][0]) if at >= 0 else at


def survey(view: FleetView, ask: Ask, standing: Sequence[Standing]) -> Ground:
    """Return the ground for an ask whose counts are all above zero."""
    totals = dict(ask.delta)
    for one in standing:
        if not one.withdrawn:
            totals[one.role] = totals.get(one.role, 0) + 1
    return Ground(view, ask, standing, totals, _needed_peer(view, ask, standing))


def _needed_peer(view: FleetView, ask: Ask, standing: Sequence[Standing]) -> Role | None:
    role, *others = ask.delta
    if others:
        return None
    placed = {
        one.role
        for one in standing
        if not one.withdrawn and all(agent in view for agent in one.agent_ids)
    }
    return beside(role, placed & ask.roles.keys())


def _left(cell: Cell, parts: Parts, seats: Sequence[Seat]) -> Hand:
    """Return a domain's nodes less what the seats take."""
    hand = deal(cell, parts)
    hand.without(seats)
    return hand


def _order(pair: _Pair) -> Order:
    return pair[0]


def _add(left: Counts, right: Counts) -> dict[Role, int]:
    return {role: left.get(role, 0) + right.get(role, 0) for role in {**left, **right}}
