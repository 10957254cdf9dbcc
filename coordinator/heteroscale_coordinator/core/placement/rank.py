"""Rank: which of the domains that could hold a part of a step should hold it.

heteroscale.md §4: preferred GPU types, then the least high-class resource even if that means a new
group; only then is growing a group better than opening one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.family import Family
from heteroscale_coordinator.core.placement.hand import Seat
from heteroscale_coordinator.core.placement.kind import Parts, gpus_of
from heteroscale_coordinator.core.topology import Path, SubgroupClass

PEERS = {
    Role.PREFILL: (Role.DECODE,),
    Role.ATTENTION: (Role.DECODE,),
    Role.FFN: (Role.ATTENTION,),
    Role.DECODE: (Role.PREFILL, Role.ATTENTION),
}
"""Whom an instance exchanges KV cache with, ffn its work; their domain is the affinity's concern."""


def peer_of(role: Role, roles: Container[Role]) -> Role | None:
    """Return the role of a service that ``role`` should stand beside; None when there is none."""
    return next((peer for peer in PEERS.get(role, ()) if peer in roles), None)


_PARTNERS = {Role.ATTENTION: Role.FFN, Role.FFN: Role.ATTENTION}
"""Who shares an S1 with whom, whatever the affinity: a prefill that is split (heteroscale.md §4)."""


def beside(role: Role, there: Container[Role]) -> Role | None:
    """Return beside which of the roles that are there one goes that comes alone; None: beside none.

    Half of a split prefill goes to its other half before it goes to decode.
    """
    partner = _PARTNERS.get(role)
    return partner if partner in there else peer_of(role, there)


class Fit(NamedTuple):
    """A place for a part of a step in one domain."""

    seats: tuple[Seat, ...]
    gpus: int
    shunned: int
    """GPUs taken on nodes that would rather not (a taint PreferNoSchedule)."""
    off_type: int
    """Places lost in the roles' orders of GPU types, over all instances."""
    high: int
    """GPUs taken on high-class nodes."""
    medium: int
    """GPUs taken on medium-class nodes."""


NO_FIT = Fit((), 0, 0, 0, 0, 0)


def fit_of(seats: tuple[Seat, ...]) -> Fit:
    """Return what the seats cost."""
    gpus = shunned = off_type = high = medium = 0
    for seat in seats:
        gpus += seat.gpus
        shunned += seat.gpus if seat.shunned else 0
        off_type += seat.preference if seat.rank == 0 else 0
        if seat.subgroup is SubgroupClass.HIGH:
            high += seat.gpus
        elif seat.subgroup is SubgroupClass.MEDIUM:
            medium += seat.gpus
    return Fit(seats, gpus, shunned, off_type, high, medium)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A domain with the part of the step it would hold."""

    domain: Cell
    counts: Counts
    """All that this step puts there."""
    fit: Fit
    kin: Counts
    """Instances of the service that stand there now and are not on their way out."""


class Order(NamedTuple):
    """Fields in order of weight; the smallest wins."""

    plenty: float
    """One-role asks: minus how much the role is lacking there."""
    shunned: int
    """GPUs taken on nodes that would rather not."""
    off_type: int
    """Places lost in the roles' orders of GPU types, over all instances."""
    high: int
    """GPUs taken on high-class nodes."""
    opens: bool
    """A new group rather than one that stands, or that an earlier part of this step opens."""
    medium: int
    """GPUs taken on medium-class nodes."""
    uneven: float
    """How far the domain's P:D would be from the whole service's."""
    left_over: int
    """GPUs left free: best fit; negative for a split step, which starts where there is most room."""
    path: Path


WORDS = {
    "plenty": "lacks the role less",
    "shunned": "would use nodes whose taint says PreferNoSchedule",
    "off_type": "has less preferred GPU types",
    "high": "would use more high-class GPUs",
    "opens": "would be a new group",
    "medium": "would use more medium-class GPUs",
    "uneven": "would be less balanced",
    "left_over": "fits less well",
    "path": "is equal, later by name",
}
"""Why a candidate lost, by the first field in which it is worse."""


@dataclass(frozen=True, slots=True)
class Want:
    """One unit of a step, and what its candidates are measured by."""

    counts: Counts
    roles: Container[Role]
    """All roles of the service."""
    totals: Counts
    """The service's instances once the whole step stands."""
    split: bool
    """It is one of several units."""
    snug: bool = False
    """By room alone, the tightest domain first, whatever its class: units that else find no place."""

    @property
    def lone(self) -> tuple[Role, Role] | None:
        """Return the only role asked and beside whom it goes; None: several are asked, or nobody."""
        asked = [role for role, count in self.counts.items() if count]
        if len(asked) != 1:
            return None
        there = [role for role, count in self.totals.items() if count]
        peer = beside(asked[0], there) or peer_of(asked[0], self.roles)
        return (asked[0], peer) if peer else None

    @property
    def widest_first(self) -> bool:
        """Return whether the domain with most room is the best, else the one with the least."""
        return self.split and self.lone is None and not self.snug


def order_of(want: Want, candidate: Candidate, before: Candidate | None) -> Order:
    """Return how good it is to let ``candidate`` follow on ``before``, its domain's part so far."""
    fit, had = candidate.fit, before.fit if before else NO_FIT
    held = _sum(candidate.kin, before.counts if before else {})
    left_over = candidate.domain.room - fit.gpus
    lone = want.lone
    return Order(
        plenty=-_lack(*lone, held, want.totals) if lone else 0.0,
        shunned=fit.shunned - had.shunned,
        off_type=fit.off_type - had.off_type,
        high=0 if want.snug else fit.high - had.high,
        opens=not any(held.values()),
        medium=0 if want.snug else fit.medium - had.medium,
        uneven=_uneven(_sum(candidate.kin, candidate.counts), want.totals),
        left_over=-left_over if want.widest_first else left_over,
        path=candidate.domain.path,
    )


class Bound(NamedTuple):
    """The best that any domain of a family could give."""

    shunned: int
    off_type: int
    high: int
    medium: int


def bound_of(parts: Parts, family: Family) -> Bound | None:
    """Return what the parts would cost there at the least; None: no such domain can hold them."""
    shunned = off_type = high = medium = 0
    for part in parts:
        able = [
            (rank, subgroup, part.kind.shunned(terms))
            for subgroup, terms, gpu_types in family.strains
            if part.kind.admitted(terms)
            for gpu_type in gpu_types
            if (rank := part.kind.preference(gpu_type)) is not None
        ]
        if not able:
            return None
        mildest = min(subgroup for _, subgroup, _ in able)
        shunned += part.gpus if all(last for _, _, last in able) else 0
        off_type += part.instances * min(rank for rank, _, _ in able)
        high += part.gpus if mildest is SubgroupClass.HIGH else 0
        # In the order of weight this is the least: what is not medium would be high.
        medium += part.gpus if mildest is SubgroupClass.MEDIUM else 0
    return Bound(shunned, off_type, high, medium)


def best_of(want: Want, parts: Parts, bound: Bound, room: int, path: Path) -> Order:
    """Return the best order that a domain without kin could come to."""
    left_over = room - gpus_of(parts)
    lone = want.lone
    return Order(
        plenty=-_lack(*lone, {}, want.totals) if lone else 0.0,
        shunned=bound.shunned,
        off_type=bound.off_type,
        high=0 if want.snug else bound.high,
        opens=True,
        medium=0 if want.snug else bound.medium,
        uneven=_uneven(want.counts, want.totals),
        left_over=-left_over if want.widest_first else left_over,
        path=path,
    )


def why_behind(winner: Order, loser: Order) -> str:
    """Return in words the first thing that speaks against ``loser``."""
    ours: tuple[Any, ...] = winner
    theirs: tuple[Any, ...] = loser
    fields = zip(Order._fields, ours, theirs, strict=True)
    return next((WORDS[name] for name, our, their in fields if their > our), WORDS["path"])


def _sum(left: Counts, right: Counts) -> dict[Role, int]:
    return {role: left.get(role, 0) + right.get(role, 0) for role in {**left, **right}}


def _lack(role: Role, peer: Role, held: Counts, totals: Counts) -> float:
    """Return how many of ``role`` are missing beside the peers held, by the service's own ratio."""
    if not totals.get(peer):
        return 0.0
    return held.get(peer, 0) * totals.get(role, 0) / totals[peer] - held.get(role, 0)


def _uneven(held: Counts, totals: Counts) -> float:
    peer = peer_of(Role.DECODE, totals)
    if peer is None or not totals.get(peer) or not totals.get(Role.DECODE):
        return 0.0
    return abs(_lack(Role.DECODE, peer, held, totals))
