"""Prefill and decode go together: one of them alone moves only inside the band, or toward it."""

from __future__ import annotations

import math

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.spec import RatioSpec
from tests.core.machine.claims.facts import Ledger, acted, present_before
from tests.core.machine.unruly import Turn

OTHERS_ASKED = frozenset({"bounds", "wanted", "schedule"})
"""Bounds always win, and so does what an operator wants; the band is restored afterwards."""


def outside(prefill: int, decode: int, band: RatioSpec) -> float:
    """Return how many prefill instances too many or too few there are for each decode instance.

    Counts are whole: what rounding up of the lower limit asks for is never too many.
    """
    least = max(1, math.ceil(band.min * decode - 1e-9))
    most = max(least, math.floor(band.max * decode + 1e-9))
    return max(least - prefill, prefill - most, 0) / max(1, decode)


def one_role_alone_stays_in_the_band_or_comes_closer(turn: Turn, _: Ledger) -> None:
    for service, decision in acted(turn):
        sign = {Action.SCALE_OUT: 1, Action.SCALE_IN: -1}.get(decision.action)
        if sign is None or len(decision.delta) != 1 or decision.bound_by in OTHERS_ASKED:
            continue
        before = present_before(turn, service)
        if Role.PREFILL not in service.spec.roles:
            continue
        after = {role: n + sign * decision.delta.get(role, 0) for role, n in before.items()}
        strayed = [
            outside(counts[Role.PREFILL], counts[Role.DECODE], service.spec.ratio)
            for counts in (before, after)
        ]
        assert strayed[1] == 0 or strayed[1] < strayed[0], f"{before} → {after}: {decision.reason}"


RATIO = (one_role_alone_stays_in_the_band_or_comes_closer,)
