"""Roles go together: one of them alone moves only inside the band, or toward it; so do several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action, Decision, Service
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.machine.claims.facts import Ledger, acted, present_before
from tests.core.machine.unruly import Turn

OTHERS_ASKED = {
    Action.SCALE_OUT: frozenset({"schedule"}),
    Action.SCALE_IN: frozenset({"bounds", "wanted", "schedule"}),
}
"""Bounds always win, and so does what an operator wants; the band is restored afterwards. What is added
is a law's step also where bounds cut it."""


def pairs_of(spec: ServiceSpec) -> Iterator[tuple[Role, Role, float, float]]:
    """Yield (follower, lead, fewest, most followers for each of the lead); none for one role."""
    first = Role.ATTENTION if Role.ATTENTION in spec.roles else Role.PREFILL
    if first in spec.roles:
        yield first, Role.DECODE, spec.ratio.min, spec.ratio.max
    if (inner := spec.inner_ratio) is not None:
        yield Role.FFN, first, 1 / inner.max, 1 / inner.min


def outside(follower: int, lead: int, least: float, most: float) -> float:
    """Return how many followers too many or too few there are for each of the lead.

    Counts are whole: what rounding up of the lower limit asks for is never too many.
    """
    low = max(1, math.ceil(least * lead - 1e-9))
    high = max(low, math.floor(most * lead + 1e-9))
    return max(low - follower, follower - high, 0) / max(1, lead)


def moves(turn: Turn) -> Iterator[tuple[Service, Decision, Counter[Role], Counter[Role]]]:
    """Yield what laws changed: the decision, and the counts before and after it."""
    for service, decision in acted(turn):
        sign = {Action.SCALE_OUT: 1, Action.SCALE_IN: -1}.get(decision.action)
        if sign is None or decision.bound_by in OTHERS_ASKED[decision.action]:
            continue
        before = present_before(turn, service)
        after = Counter(
            {role: n + sign * decision.delta.get(role, 0) for role, n in before.items()}
        )
        yield service, decision, before, after


def one_role_alone_stays_in_the_band_or_comes_closer(turn: Turn, _: Ledger) -> None:
    for service, decision, before, after in moves(turn):
        if len(decision.delta) == 1:
            _held(service.spec, decision, before, after)


def a_step_of_several_roles_holds_every_ratio_or_brings_it_closer(turn: Turn, _: Ledger) -> None:
    for service, decision, before, after in moves(turn):
        if len(decision.delta) > 1:
            _held(service.spec, decision, before, after)


def _held(
    spec: ServiceSpec, decision: Decision, before: Counter[Role], after: Counter[Role]
) -> None:
    for follower, lead, least, most in pairs_of(spec):
        if decision.delta.keys().isdisjoint((follower, lead)):
            continue
        was, then = (outside(n[follower], n[lead], least, most) for n in (before, after))
        text = f"{follower}:{lead} of {least:g} to {most:g}, {dict(before)} → {dict(after)}"
        assert then == 0 or then < was, f"{text}: {decision.reason}"


RATIO = (
    one_role_alone_stays_in_the_band_or_comes_closer,
    a_step_of_several_roles_holds_every_ratio_or_brings_it_closer,
)
