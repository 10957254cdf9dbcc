"""Choose: a place for a whole step {ΔP, ΔD}, from the wished affinity outward, or why there is none.

On each level: the step in one domain; else in balanced parts over several, each with both roles;
else the next wider level. A lone role goes beside its peers, where it is lacking most. What does not
fit as a whole is not placed at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heteroscale_coordinator.core.model import Counts, Rank
from heteroscale_coordinator.core.placement.feasible import room, shortfall
from heteroscale_coordinator.core.placement.ground import Ground, survey
from heteroscale_coordinator.core.placement.rank import Candidate, Order, order_of, why_behind
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    NodeView,
    Placed,
    Spot,
    Standing,
)
from heteroscale_coordinator.core.spec import PlacementSpec
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, Domain, Path

SAID = 3
"""Domains named per level in reasons and rejections; of the rest only their number is told."""


def place(ask: Ask, nodes: Sequence[NodeView], standing: Sequence[Standing]) -> Placed | Infeasible:
    """Return where the instances of ``ask.delta`` go, all of them, or why they cannot.

    ``nodes`` is the whole fleet, the unusable too: it shapes the tree. ``standing`` are the
    service's own instances. Counts of zero or less ask for nothing.
    """
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if strange := sorted(counts.keys() - ask.roles.keys()):
        return Infeasible((f"{ask.service} has no role {strange[0]}",))
    if not counts:
        return Placed((), "nothing asked", ask.placement.affinity)
    ground = survey(Ask(ask.service, ask.roles, counts, ask.placement), nodes, standing)
    reasons: list[str] = []
    for level in _levels(ask.placement):
        for units in _cuts(counts):
            if found := _spread(ground, level, units):
                return _placed(ground, level, found, reasons)
        reasons.extend(_why_not(ground, level))
    if ground.patience.spent:
        reasons.append("the search was cut short: a place may exist that was not found")
    return Infeasible(tuple(reasons))


@dataclass(frozen=True, slots=True)
class _Found:
    """A step in its place: the part of each domain, and what else was possible."""

    parts: tuple[Candidate, ...]
    behind: tuple[str, ...]


def _levels(placement: PlacementSpec) -> tuple[str, ...]:
    first = AFFINITY_LEVELS.index(placement.affinity)
    return AFFINITY_LEVELS[first : first + 1] if placement.required else AFFINITY_LEVELS[first:]


def _cuts(counts: Counts) -> Iterator[list[Counts]]:
    """Yield the ways to cut a step: whole, then into as many balanced units as keep both roles.

    A lone role is cut into single instances at once, for it may have several groups to mend.
    """
    if len(counts) == 1:
        ((role, count),) = counts.items()
        yield [{role: 1}] * count
        return
    yield [counts]
    pieces = min(counts.values())
    if pieces > 1:
        shares = {role: divmod(count, pieces) for role, count in counts.items()}
        yield [
            {role: each + (number < extra) for role, (each, extra) in shares.items()}
            for number in range(pieces)
        ]


def _spread(ground: Ground, level: str, units: Sequence[Counts]) -> _Found | None:
    """Give each unit to the best domain of the level; None as soon as one unit has none."""
    parts: dict[Path, Candidate] = {}
    behind: tuple[str, ...] = ()
    for number, unit in enumerate(units):
        ranked = [
            (_order(ground, candidate, parts, split=len(units) > 1), candidate)
            for candidate in ground.candidates(level, unit, parts)
        ]
        if not ranked:
            return None
        ranked.sort(key=lambda pair: pair[0])
        best = ranked[0][1]
        parts[best.domain.path] = best
        if number == 0:
            behind = _say_behind(level, [order for order, _ in ranked])
    return _Found(tuple(parts.values()), behind)


def _order(
    ground: Ground, candidate: Candidate, parts: dict[Path, Candidate], *, split: bool
) -> Order:
    before = parts.get(candidate.domain.path)
    ask = ground.ask
    return order_of(candidate, before, ground.totals, ask.roles, ground.benches, split=split)


# ---- the answer ------------------------------------------------------------------------------


def _placed(ground: Ground, level: str, found: _Found, reasons: Sequence[str]) -> Placed:
    spots = tuple(spot for part in found.parts for spot in _spots(ground, part))
    text = "; ".join(_say_part(ground, part, spots) for part in found.parts)
    wished = ground.ask.placement.affinity
    if level != wished:
        text += f"; wider than the wished {wished}, which has no room"
    return Placed(spots, text, level, (*reasons, *found.behind))


def _group(ground: Ground, domain: Domain) -> str:
    return f"{ground.ask.service}@{domain.level}={domain.name}"


def _spots(ground: Ground, part: Candidate) -> Iterator[Spot]:
    """Turn seats into spots: on each node the lowest free indices of the type."""
    free = {
        (agent_id, gpu_type): list(indices)
        for agent_id in {seat.agent_id for seat in part.seats}
        for gpu_type, indices in ground.benches[agent_id].free.items()
    }
    ranks: list[Rank] = []
    for seat in part.seats:
        spec = ground.ask.roles[seat.role]
        indices = free[seat.agent_id, seat.gpu_type]
        ranks.append(Rank(seat.agent_id, tuple(indices[: spec.gpus])))
        del indices[: spec.gpus]
        if len(ranks) == spec.ranks:
            yield Spot(seat.role, tuple(ranks), _group(ground, part.domain), seat.gpu_type)
            ranks = []


def _say_part(ground: Ground, part: Candidate, spots: Sequence[Spot]) -> str:
    group = _group(ground, part.domain)
    tally = Counter((spot.role, spot.gpu_type) for spot in spots if spot.group == group)
    what = " and ".join(
        f"{count} {role} on {gpu_type or 'GPUs of unknown type'}"
        for (role, gpu_type), count in sorted(tally.items())
    )
    classes = {ground.benches[seat.agent_id].subgroup for seat in part.seats}
    words = "/".join(one.name.lower() for one in sorted(classes))
    verb = "grows" if any(part.kin.values()) else "opens"
    return f"{verb} {group} ({words} class) by {what}"


def _say_behind(level: str, orders: Sequence[Order]) -> tuple[str, ...]:
    winner, *losers = orders
    said = [f"{level} {loser.name}: fits, but {why_behind(winner, loser)}" for loser in losers]
    return _shorten(level, said, "fit too")


def _shorten(level: str, said: Sequence[str], rest: str) -> tuple[str, ...]:
    more = len(said) - SAID
    return (*said[:SAID], f"{level}: {more} more {rest}") if more > 0 else tuple(said)


# ---- why not ---------------------------------------------------------------------------------


def _why_not(ground: Ground, level: str) -> tuple[str, ...]:
    """Say for each domain of a level what it lacks; those with the most room first."""
    domains = ground.tree.domains(level)
    if not domains:
        return (f"{level}: no node names its {level}" if ground.nodes else f"{level}: no nodes",)
    nearest = sorted(domains, key=lambda domain: (-_room(ground, domain), domain.name))
    said = [f"{level} {domain.name}: {_lacks(ground, domain)}" for domain in nearest]
    return _shorten(level, said, "without room")


def _room(ground: Ground, domain: Domain) -> int:
    benches = ground.seats_in(domain)
    return sum(room(role, ground.ask.roles[role], benches) for role in ground.ask.delta)


def _lacks(ground: Ground, domain: Domain) -> str:
    counts = ground.ask.delta
    if peer := ground.peers_missing(domain):
        return f"no {peer} of the service stands there"
    short = shortfall(ground.ask, counts, ground.nodes_in(domain), ground.seats_in(domain))
    wanted = " and ".join(f"{count} {role}" for role, count in counts.items())
    return short or f"room for each role or rank alone, not for {wanted} together"
