"""Rank: which of the domains that could hold a part of a step should hold it.

heteroscale.md §4: preferred GPU types, then the least high-class resource even if that means a new
group; only then is growing a group better than opening one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.feasible import Bench, preference
from heteroscale_coordinator.core.placement.pack import Seat
from heteroscale_coordinator.core.placement.values import Standing
from heteroscale_coordinator.core.spec import RoleSpec
from heteroscale_coordinator.core.topology import Domain, SubgroupClass

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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A domain with the part of the step it would hold."""

    domain: Domain
    counts: Counts
    """All that this step puts there."""
    seats: tuple[Seat, ...]
    kin: Counts
    """Instances of the service that stand there now and are not on their way out."""


class Order(NamedTuple):
    """Fields in order of weight; the smallest wins."""

    plenty: float
    """One-role asks: minus how much the role is lacking there."""
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
    name: str


WORDS = {
    "plenty": "lacks the role less",
    "off_type": "has less preferred GPU types",
    "high": "would use more high-class GPUs",
    "opens": "would be a new group",
    "medium": "would use more medium-class GPUs",
    "uneven": "would be less balanced",
    "left_over": "fits less well",
    "name": "is equal, later by name",
}
"""Why a candidate lost, by the first field in which it is worse."""


def kin_in(domain: Domain, standing: Sequence[Standing]) -> dict[Role, int]:
    """Count the service's instances that stand in a domain with all their ranks."""
    counts: dict[Role, int] = {}
    for one in standing:
        if not one.withdrawn and domain.agents.issuperset(one.agent_ids):
            counts[one.role] = counts.get(one.role, 0) + 1
    return counts


def order_of(
    candidate: Candidate,
    before: Candidate | None,
    totals: Counts,
    roles: Mapping[Role, RoleSpec],
    benches: Mapping[str, Bench],
    *,
    split: bool,
) -> Order:
    """Return how good it is to let ``candidate`` follow on ``before``, its domain's part so far.

    ``totals`` are the service's instances once the whole step stands; ``split`` says that this is
    one unit of several.
    """
    seats, had = candidate.seats, before.seats if before else ()
    asked = [role for role, count in candidate.counts.items() if count]
    alone = peer_of(asked[0], roles) if len(asked) == 1 else None
    held = _sum(candidate.kin, before.counts if before else {})
    left_over = _left_over(candidate, roles, benches)
    return Order(
        plenty=-_lack(asked[0], alone, held, totals) if alone else 0.0,
        off_type=_off_type(seats, roles) - _off_type(had, roles),
        high=_gpus(seats, roles, benches, SubgroupClass.HIGH)
        - _gpus(had, roles, benches, SubgroupClass.HIGH),
        opens=not any(held.values()),
        medium=_gpus(seats, roles, benches, SubgroupClass.MEDIUM)
        - _gpus(had, roles, benches, SubgroupClass.MEDIUM),
        uneven=_uneven(_sum(candidate.kin, candidate.counts), totals),
        left_over=-left_over if split and alone is None else left_over,
        name=candidate.domain.name,
    )


def why_behind(winner: Order, loser: Order) -> str:
    """Return in words the first thing that speaks against ``loser``."""
    ours: tuple[Any, ...] = winner
    theirs: tuple[Any, ...] = loser
    fields = zip(Order._fields, ours, theirs, strict=True)
    return next((WORDS[name] for name, our, their in fields if their > our), WORDS["name"])


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


def _off_type(seats: Sequence[Seat], roles: Mapping[Role, RoleSpec]) -> int:
    return sum(preference(roles[s.role], s.gpu_type) or 0 for s in seats if s.rank == 0)


def _gpus(
    seats: Sequence[Seat],
    roles: Mapping[Role, RoleSpec],
    benches: Mapping[str, Bench],
    subgroup: SubgroupClass,
) -> int:
    return sum(
        roles[seat.role].gpus for seat in seats if benches[seat.agent_id].subgroup is subgroup
    )


def _left_over(
    candidate: Candidate, roles: Mapping[Role, RoleSpec], benches: Mapping[str, Bench]
) -> int:
    free = sum(
        len(indices)
        for agent_id in candidate.domain.agents
        if agent_id in benches
        for indices in benches[agent_id].free.values()
    )
    return free - sum(roles[seat.role].gpus for seat in candidate.seats)
