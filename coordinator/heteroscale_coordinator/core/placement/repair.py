"""Repair: which instance of a service should stand elsewhere, and what would be better then.

Three wrongs are healed: an instance on sick hardware, one on a node with a taint NoExecute that its
service does not tolerate, and domains of the wished affinity that hold more of one role than the ratio
has use for, while its peers stand elsewhere: groups out of balance, or spread over two domains. Of a
prefill that is split, attention counts as prefill beside decode, and each S1 is to hold attention and
ffn in their own ratio: the half that stands without the other is moved, never the pair. Each move has
to make the whole better, so a series of them ends.

What an operator cordoned is left alone: a cordon says "nothing new", not "away".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from heteroscale.words import Role
from heteroscale_coordinator.core.placement.values import Infeasible, NodeView, Placed, Standing
from heteroscale_coordinator.core.placement.victims import choose_victims
from heteroscale_coordinator.core.spec import PlacementSpec, RatioSpec
from heteroscale_coordinator.core.topology import Path, paths_of

Placer = Callable[[Standing, PlacementSpec], Placed | Infeasible]
"""Places another like the instance given, as if that one did not stand, under the placement given."""

_TRIED = 2
"""So many instances are looked for a better place for, at one time."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Move:
    """An instance that leaves, and where another comes before."""

    leaves: Standing
    comes: Placed
    why: str
    """What is wrong with where it stands, in words."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """An instance that stands badly."""

    one: Standing
    why: str
    away: bool
    """Where it stands is the wrong, not how its group is balanced: any other place is better."""


def repair(
    standing: Sequence[Standing],
    nodes: Iterable[NodeView],
    ratio: RatioSpec,
    placement: PlacementSpec,
    placer: Placer,
    *,
    inner: RatioSpec | None = None,
) -> Move | str:
    """Return the move that heals most, or why there is none; empty: nothing is wrong.

    ``inner``: attention:ffn, of a prefill that is split.
    """
    pairs = pairs_of(standing, nodes, ratio, placement.affinity, inner)
    near = replace_placement(placement)
    found = ""
    for number, flaw in enumerate(flaws(standing, nodes, pairs)):
        if number == _TRIED:
            break
        one = flaw.one
        answer = placer(one, placement if flaw.away else near)
        if isinstance(answer, Infeasible):
            found = found or f"{_say(flaw)}, but nothing better is free: {answer.reasons[0]}"
            continue
        spot = answer.spots[0]
        agents = tuple(rank.agent_id for rank in spot.ranks)
        moved = replace(one, agent_ids=agents, sick="", unwelcome="")
        rest = [other for other in standing if other is not one]
        before, after = (excess(group, pairs) for group in (standing, [*rest, moved]))
        if flaw.away or after < before:
            return Move(one, answer, flaw.why)
        found = found or f"{_say(flaw)}, but no other place is better"
    return found


def replace_placement(placement: PlacementSpec) -> PlacementSpec:
    """Return the placement with its affinity required: farther away nothing is healed."""
    return placement.model_copy(update={"required": True})


@dataclass(frozen=True, slots=True)
class Pair:
    """Two roles that exchange something, and what one domain should hold of them."""

    first: Role
    second: Role
    ratio: RatioSpec
    """First to second."""
    level: str
    homes: dict[str, Path]
    """Each node's domain of the level."""
    movable: tuple[Role, ...]
    """Which of them may be moved alone."""


def pairs_of(
    standing: Sequence[Standing],
    nodes: Iterable[NodeView],
    ratio: RatioSpec,
    level: str,
    inner: RatioSpec | None = None,
) -> tuple[Pair, ...]:
    """Return which roles of a service should stand together, on which level.

    ``level``: the affinity that prefill and decode of the service wish for.
    """
    homes = homes_of(nodes, level)
    split = any(one.role in (Role.ATTENTION, Role.FFN) for one in standing)
    if not split:
        both = (Role.PREFILL, Role.DECODE)
        return (Pair(*both, ratio, level, homes, both),)
    # Attention without use for decode would take its ffn along: a pair is not moved.
    outer = Pair(Role.ATTENTION, Role.DECODE, ratio, level, homes, (Role.DECODE,))
    if inner is None:
        return (outer,)
    halves = (Role.ATTENTION, Role.FFN)
    return (Pair(*halves, inner, "s1", homes_of(nodes, "s1"), halves), outer)


def flaws(
    standing: Sequence[Standing], nodes: Iterable[NodeView], pairs: Sequence[Pair]
) -> Iterator[Flaw]:
    """Yield the instances that stand badly, the worst first; none that is on its way out."""
    stays = [one for one in standing if not one.withdrawn]
    for one in sorted((o for o in stays if o.sick), key=lambda o: o.instance_id):
        yield Flaw(one, f"stands on sick hardware, {one.sick}", away=True)
    unwelcome = (one for one in stays if one.unwelcome and not one.sick)
    for one in sorted(unwelcome, key=lambda o: o.instance_id):
        yield Flaw(one, f"is not wanted where it stands, {one.unwelcome}", away=True)
    for pair in pairs:
        yield from _crowded(stays, nodes, pair)


def _crowded(stays: Sequence[Standing], nodes: Iterable[NodeView], pair: Pair) -> Iterator[Flaw]:
    crowded = sorted(
        (
            (-_too_many(role, counts, pair), home, role)
            for home, counts in _counts(stays, pair.homes).items()
            for role in pair.movable
        ),
    )
    for surplus, home, role in crowded:
        if surplus < 0:
            there = [o for o in stays if o.role is role and _home(o, pair.homes) == home]
            victim = choose_victims({role: 1}, there, nodes, pair.ratio).instance_ids[0]
            one = next(one for one in there if one.instance_id == victim)
            beside = _beside(role, _counts(stays, pair.homes)[home], pair)
            yield Flaw(one, f"stands with {beside} in its {pair.level}", away=False)


def excess(standing: Sequence[Standing], pairs: Sequence[Pair]) -> int:
    """Return how many instances have no use for want of peers in their own domain."""
    stays = [one for one in standing if not one.withdrawn]
    return sum(
        _too_many(role, held, pair)
        for pair in pairs
        for held in _counts(stays, pair.homes).values()
        for role in (pair.first, pair.second)
    )


def homes_of(nodes: Iterable[NodeView], level: str) -> dict[str, Path]:
    """Return the domain of each node at a level of affinity; one that names none is alone."""
    return {
        node.agent_id: getattr(paths_of(node.topology), level) or ("", node.agent_id)
        for node in nodes
    }


def _home(one: Standing, homes: dict[str, Path]) -> Path:
    """Return where an instance stands; one whose ranks are apart stands in a place of its own."""
    places = {homes.get(agent, ("", agent)) for agent in one.agent_ids}
    return places.pop() if len(places) == 1 else ("", "", one.instance_id)


def _counts(standing: Sequence[Standing], homes: dict[str, Path]) -> dict[Path, Counter[Role]]:
    counts: dict[Path, Counter[Role]] = {}
    for one in standing:
        counts.setdefault(_home(one, homes), Counter())[one.role] += 1
    return counts


def _too_many(role: Role, counts: Counter[Role], pair: Pair) -> int:
    """Return how many of a role its peers have no use for; what rounding makes is forgiven."""
    first, second = counts[pair.first], counts[pair.second]
    if role is pair.first:
        return max(0, first - ceil(pair.ratio.max * second - _TINY))
    return max(0, second - floor(first / pair.ratio.min + _TINY))


def _beside(role: Role, counts: Counter[Role], pair: Pair) -> str:
    peer = pair.second if role is pair.first else pair.first
    more = f"{counts[role] - 1} more {role} and " if counts[role] > 1 else ""
    return f"{more}{counts[peer] or 'no'} {peer}"


def _say(flaw: Flaw) -> str:
    return f"{flaw.one.role} {flaw.one.instance_id} {flaw.why}"
