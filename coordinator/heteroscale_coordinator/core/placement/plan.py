"""Choose: a place for a whole step {ΔP, ΔD}, from the wished affinity outward, or why there is none.

On each level: the step in one domain; else in balanced parts over several, each with both roles;
else the next wider level. A lone role goes beside its peers, where it is lacking most. What does not
fit as a whole is not placed at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.placement.cell import Cell
from heteroscale_coordinator.core.placement.feasible import room, shortfall
from heteroscale_coordinator.core.placement.fill import STRIDES, fill
from heteroscale_coordinator.core.placement.ground import Ground, survey
from heteroscale_coordinator.core.placement.kind import Part, Parts
from heteroscale_coordinator.core.placement.rank import Candidate, Order, Want, why_behind
from heteroscale_coordinator.core.placement.spots import seated
from heteroscale_coordinator.core.placement.values import (
    Ask,
    Infeasible,
    Placed,
    Spot,
    Standing,
)
from heteroscale_coordinator.core.topology import AFFINITY_LEVELS, Path

if TYPE_CHECKING:
    from heteroscale_coordinator.core.placement.view import FleetView

SAID = 3
"""Domains named per level in reasons and rejections; of the rest only their number is told."""


def place_in(
    view: FleetView, ask: Ask, standing: Sequence[Standing], said: int = SAID
) -> Placed | Infeasible:
    """Return where the instances of ``ask.delta`` go, whatever the service's rules, or why they cannot.

    ``view`` is the whole fleet, the unusable nodes too: they shape the tree. ``standing`` are the
    service's own instances. Counts of zero or less ask for nothing. ``said``: how many rejected
    candidates are told; nothing else depends on it.
    """
    counts = {role: count for role, count in ask.delta.items() if count > 0}
    if strange := sorted(counts.keys() - ask.roles.keys()):
        return Infeasible((f"{ask.service} has no role {strange[0]}",))
    if not counts:
        return Placed((), "nothing asked", ask.placement.affinity)
    ground = survey(view, replace(ask, delta=counts), standing)
    reasons: list[str] = []
    for level in _levels(ground):
        for cut in _cuts(ground):
            if found := _spread(ground, level, cut, said):
                return _placed(ground, level, found, reasons)
        reasons.extend(_why_not(ground, level))
    if ground.patience.spent:
        reasons.append("the search was cut short: a place may exist that was not found")
    return Infeasible(tuple(reasons))


def might_fit(view: FleetView, ask: Ask) -> bool:
    """Return whether the fleet has the GPUs for a step, wherever they are; False is certain, and soon."""
    return survey(view, ask, ()).enough


def most_units(view: FleetView, ask: Ask, standing: Sequence[Standing]) -> tuple[int, int]:
    """Return how many of a step's balanced units find a place, one after the other, and of how many.

    On the affinity level on which most do, whatever the service's rules. All counts are above zero.
    """
    ground = survey(view, ask, standing)
    cut = _Cut(_units(ask.delta))
    most = max(_as_many(ground, level, cut, 0)[0] for level in _levels(ground))
    return most, len(cut.units)


@dataclass(frozen=True, slots=True)
class _Found:
    """A step in its place: the part of each domain, and what else was possible."""

    parts: tuple[Candidate, ...]
    behind: tuple[str, ...]


def _levels(ground: Ground) -> tuple[str, ...]:
    """Return the levels on which a place is sought; half of a split prefill seeks the S1 of the other."""
    placement = ground.ask.placement
    first = AFFINITY_LEVELS.index(placement.affinity)
    nearer = AFFINITY_LEVELS[: first and 1] if ground.halved else ()
    last = first + 1 if placement.required else len(AFFINITY_LEVELS)
    return (*nearer, *AFFINITY_LEVELS[first:last])


class _Cut(NamedTuple):
    units: Sequence[Counts]
    snug: bool = False
    """Laid by room alone."""


def _cuts(ground: Ground) -> Iterator[_Cut]:
    """Yield the ways to cut a step: whole, then into as many balanced units as keep both roles.

    A lone role is cut into single instances at once, for it may have several groups to mend. What the
    whole fleet has no GPUs for is not cut: units would be placed by the thousand for nothing.
    """
    counts = ground.ask.delta
    if len(counts) > 1:
        yield _Cut([counts])
    if (len(counts) == 1 or min(counts.values()) > 1) and ground.enough:
        units = _units(counts)
        yield _Cut(units)
        if 1 < len(units) <= STRIDES:
            yield _Cut(units, snug=True)


def _units(counts: Counts) -> list[Counts]:
    """Return the smallest balanced units with every role in each."""
    pieces = min(counts.values())
    shares = {role: divmod(count, pieces) for role, count in counts.items()}
    return [
        {role: each + (number < extra) for role, (each, extra) in shares.items()}
        for number in range(pieces)
    ]


def _spread(ground: Ground, level: str, cut: _Cut, said: int) -> _Found | None:
    """Give each unit to the best domain of the level; None as soon as one unit has none."""
    placed, found = _as_many(ground, level, cut, said)
    return found if placed == len(cut.units) else None


def _as_many(ground: Ground, level: str, cut: _Cut, said: int) -> tuple[int, _Found]:
    """Give unit after unit to the best domain of the level, until one has none; and how many had."""
    parts: dict[Path, Candidate] = {}
    behind: tuple[str, ...] = ()
    ground = replace(ground, units=len(cut.units))
    placed = 0
    for unit, alike in groupby(cut.units):
        want = Want(unit, ground.ask.roles, ground.totals, len(cut.units) > 1, cut.snug)
        left = len(list(alike))
        while left:
            ranked, more = ground.ranked(level, want, parts, 0 if placed else said)
            if not ranked:
                return placed, _Found(tuple(parts.values()), behind)
            if not placed and said:
                behind = _say_behind(ground, level, ranked, more)
            path = ranked[0][1].domain.path
            taken, parts[path] = fill(ground, want, ranked[0], parts.get(path), left)
            placed, left = placed + taken, left - taken
    return placed, _Found(tuple(parts.values()), behind)


# ---- the answer ------------------------------------------------------------------------------


def _placed(ground: Ground, level: str, found: _Found, reasons: Sequence[str]) -> Placed:
    here = [seated(ground, part.fit.seats, _group(ground, part)) for part in found.parts]
    spots = tuple(spot for part in here for spot in part.spots)
    text = "; ".join(_say_part(ground, part, spots) for part in found.parts)
    if torn := [said for part in here for said in part.torn]:
        more = [f"{len(torn) - SAID} more instances likewise"] if len(torn) > SAID else []
        text = "; ".join((text, *torn[:SAID], *more))
    wished = ground.ask.placement.affinity
    if AFFINITY_LEVELS.index(level) > AFFINITY_LEVELS.index(wished):
        text += f"; wider than the wished {wished}, which has no room"
    if ground.halved and level != AFFINITY_LEVELS[0]:
        text += f"; no s1 with {ground.peer} has room, which it should share"
    shunned = sum(part.fit.shunned for part in found.parts)
    off_type = sum(part.fit.off_type for part in found.parts)
    return Placed(spots, text, level, (*reasons, *found.behind), (shunned, off_type))


def _group(ground: Ground, part: Candidate) -> str:
    """Return the group's name, by the domain of the wished affinity at the least."""
    domain, wished = part.domain, ground.ask.placement.affinity
    if AFFINITY_LEVELS.index(domain.level) < AFFINITY_LEVELS.index(wished):
        domain = ground.view.domain_of(part.fit.seats[0].agent_id, wished) or domain
    return f"{ground.ask.service}@{domain.level}={ground.view.name_of(domain)}"


def _say_part(ground: Ground, part: Candidate, spots: Sequence[Spot]) -> str:
    group = _group(ground, part)
    tally = Counter((spot.role, spot.gpu_type) for spot in spots if spot.group == group)
    what = " and ".join(
        f"{count} {role} on {gpu_type or 'GPUs of unknown type'}"
        for (role, gpu_type), count in sorted(tally.items())
    )
    classes = {seat.subgroup for seat in part.fit.seats}
    words = "/".join(one.name.lower() for one in sorted(classes))
    verb = "grows" if any(part.kin.values()) else "opens"
    return f"{verb} {group} ({words} class) by {what}"


def _say_behind(
    ground: Ground, level: str, ranked: Sequence[tuple[Order, Candidate]], more: int
) -> tuple[str, ...]:
    (winner, _), *losers = ranked
    said = [
        f"{level} {ground.view.name_of(one.domain)}: fits, but {why_behind(winner, order)}"
        for order, one in losers
    ]
    return (*said, f"{level}: {more} more may fit too") if more else tuple(said)


# ---- why not ---------------------------------------------------------------------------------


def _why_not(ground: Ground, level: str) -> tuple[str, ...]:
    """Say for each domain of a level what it lacks; those with the most room first."""
    index = ground.view.indexes[level]
    if not index:
        return (
            f"{level}: no node names its {level}" if len(ground.view) else f"{level}: no nodes",
        )
    parts = _in_order(ground)
    likely = {path for family in index for _, path in family.members[-SAID:]}
    cells = [index.cells[path] for path in likely if ground.offers(path)]
    name_of = ground.view.name_of
    cells.sort(
        key=lambda one: (-sum(room(part.kind, one.shapes.items()) for part in parts), name_of(one))
    )
    said = [
        f"{level} {ground.view.name_of(cell)}: {_lacks(ground, parts, cell)}"
        for cell in cells[:SAID]
    ]
    more = sum(ground.offers(path) for path in index.cells) - len(said)
    return (*said, f"{level}: {more} more without room") if more else tuple(said)


def _in_order(ground: Ground) -> Parts:
    """Return the parts of the step in the order in which it was asked."""
    ask, kinds = ground.ask, ground.view.kinds
    tolerations = ask.placement.tolerations
    return tuple(
        Part(role, kinds.of(ask.roles[role], tolerations), n) for role, n in ask.delta.items()
    )


def _lacks(ground: Ground, parts: Parts, cell: Cell) -> str:
    peer = ground.peer
    if peer and not ground.kin(cell.level).get(cell.path, {}).get(peer):
        return f"no {peer} of the service stands there"
    short = shortfall(parts, cell, ground.view.node)
    wanted = " and ".join(f"{part.instances} {part.role}" for part in parts)
    return short or f"room for each role or rank alone, not for {wanted} together"
