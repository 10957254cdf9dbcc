"""KV-compatibility: on which GPU types prefill and decode of a service may stand at the same time.

Held over the whole service, standing instances included, for a router sends any request to any prefill
and on to any decode. Unknown vendors keep nobody apart: only what is known to be different does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from heteroscale.words import Role
from heteroscale_coordinator.core.placement.values import Ask, Infeasible, Standing

GIVERS = (Role.PREFILL, Role.ATTENTION)
"""Roles that make the KV cache which decode takes."""
_MOST_TYPES = 6
"""Up to so many prefill types all their combinations are tried; beyond, single ones."""


def can_feed(ask: Ask, giver: str, taker: str) -> bool:
    """Return whether decode on type ``taker`` can take the KV cache of prefill on type ``giver``."""
    named = ask.placement.feeds.get(giver)
    if named is not None:
        return taker in named
    vendors = {ask.vendors.get(giver), ask.vendors.get(taker)} - {None, ""}
    return giver == taker or len(vendors) < 2  # noqa: PLR2004 - two vendors are known, and differ


def choices(
    ask: Ask, standing: Sequence[Standing], kinds: Iterable[str]
) -> tuple[list[Ask], Infeasible | None]:
    """Return the ask with its roles' GPU types narrowed, each way in which all pairs are compatible.

    The most preferred first. Without any: why. Where nothing keeps types apart, the ask as it is.
    """
    if not ask.placement.feeds and len(set(ask.vendors.values()) - {""}) < 2:  # noqa: PLR2004 - one vendor feeds itself
        return [ask], None
    known = tuple(sorted(set(kinds)))
    giver = next((role for role in GIVERS if role in ask.roles), None)
    if giver is None or Role.DECODE not in ask.roles:
        return [ask], None
    if not known and not all(ask.roles[role].gpu_types for role in ask.delta):
        return [ask], None  # There is no GPU at all: the search says so in better words.
    asked = {
        role: ask.roles[role].gpu_types or known
        for role in (giver, Role.DECODE)
        if ask.delta.get(role, 0) > 0
    }
    gives, takes = _standing_types(standing, GIVERS), _standing_types(standing, (Role.DECODE,))
    givers = [t for t in asked.get(giver, ()) if all(can_feed(ask, t, to) for to in takes)]
    takers = [t for t in asked.get(Role.DECODE, ()) if all(can_feed(ask, of, t) for of in gives)]
    for role, left, others in ((giver, givers, takes), (Role.DECODE, takers, gives)):
        if asked.get(role) and not left:
            return [], Infeasible((_say_none(role, asked[role], others),))
    if giver not in asked or Role.DECODE not in asked:
        narrowed = [
            {role: tuple(types) for role, types in ((giver, givers), (Role.DECODE, takers))}
        ]
    else:
        narrowed = _clubs(ask, giver, givers, takers)
        if not narrowed:
            return [], Infeasible((_say_no_pair(asked[giver], asked[Role.DECODE]),))
    return [_with_types(ask, types, asked) for types in narrowed], None


def may_become(ask: Ask, role: Role, one: Standing, standing: Iterable[Standing]) -> bool:
    """Return whether an instance may take another role where it stands, beside all the others."""
    others = [other for other in standing if other.instance_id != one.instance_id]
    if role is Role.DECODE:
        return all(can_feed(ask, giver, one.gpu_type) for giver in _standing_types(others, GIVERS))
    takers = _standing_types(others, (Role.DECODE,))
    return all(can_feed(ask, one.gpu_type, taker) for taker in takers)


def _clubs(
    ask: Ask, giver: Role, givers: Sequence[str], takers: Sequence[str]
) -> list[dict[Role, tuple[str, ...]]]:
    """Return the largest sets of types of which each prefill type can feed each decode type."""
    sizes = range(len(givers), 0, -1) if len(givers) <= _MOST_TYPES else (len(givers), 1)
    found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for size in sizes:
        for some in combinations(givers, size):
            fed = tuple(t for t in takers if all(can_feed(ask, one, t) for one in some))
            larger = any(set(some) <= set(a) and set(fed) <= set(b) for a, b in found)
            if fed and not larger:
                found.append((some, fed))

    def preferred(club: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[int, int]:
        some, fed = club
        return givers.index(some[0]) + takers.index(fed[0]), -len(some) - len(fed)

    return [{giver: some, Role.DECODE: fed} for some, fed in sorted(found, key=preferred)]


def _with_types(
    ask: Ask, types: dict[Role, tuple[str, ...]], asked: dict[Role, tuple[str, ...]]
) -> Ask:
    """Return the ask with these types; a role whose types are all left stays as it was written."""
    changed = {
        role: ask.roles[role].model_copy(update={"gpu_types": left})
        for role, left in types.items()
        if role in asked and left != tuple(asked[role])
    }
    return replace(ask, roles={**ask.roles, **changed}) if changed else ask


def _standing_types(standing: Iterable[Standing], roles: Sequence[Role]) -> list[str]:
    return sorted({one.gpu_type for one in standing if one.role in roles and one.gpu_type})


def _say_none(role: Role, types: Iterable[str], others: Sequence[str]) -> str:
    peer, verb = ("prefill", "take the KV cache of") if role is Role.DECODE else ("decode", "feed")
    return (
        f"no {role} on {' or '.join(types)} can {verb} the {peer} that stands on "
        f"{' and '.join(others)}; name pairs that can in placement.feeds"
    )


def _say_no_pair(givers: Iterable[str], takers: Iterable[str]) -> str:
    return (
        f"no prefill on {' or '.join(givers)} can feed decode on {' or '.join(takers)}; name pairs "
        "that can in placement.feeds"
    )
