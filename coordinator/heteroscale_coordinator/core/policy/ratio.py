"""How many prefill instances go with how many decode instances.

One rounding rule for all: at least ``ceil(r_min × D)``, at most ``floor(r_max × D)``, and where no
whole number lies between, the lower limit, that is up, because a prefill too few starves decode
while one too many only costs. At least one. Both limits never fall as D grows, and so neither does
the result: a scale-out never takes prefill away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from heteroscale.words import Role
from heteroscale_coordinator.core.model import Counts
from heteroscale_coordinator.core.spec import RatioSpec, ServiceSpec
from heteroscale_coordinator.core.spec.ratio import Limits

_SLACK = 1e-9


class Pair(NamedTuple):
    """Two roles that are held in a ratio: ``follower`` beside ``lead``, within ``band``."""

    follower: Role
    lead: Role
    band: RatioSpec
    """Followers for each of the lead."""

    @property
    def name(self) -> str:
        """Return it in words."""
        return "inner ratio" if self.follower is Role.FFN else "ratio"

    def limits(self, counts: Counts) -> Limits:
        """Return the fewest and the most followers beside the lead in ``counts``."""
        return self.band.limits(counts[self.lead])


def pairs_of(spec: ServiceSpec) -> tuple[Pair, ...]:
    """Return the pairs of a service, each after the one that its lead follows in.

    Prefill beside decode; where prefill is split (``split``), ffn beside its attention too, by the
    same rule of rounding: an ffn too few starves attention.
    """
    found = [Pair(Role.PREFILL, Role.DECODE, spec.ratio)] if Role.PREFILL in spec.roles else []
    if spec.split and spec.inner_ratio is not None:
        found.append(Pair(Role.FFN, Role.PREFILL, spec.inner_ratio.turned()))
    return tuple(found)


def all_permitted(before: Counts, after: Counts, spec: ServiceSpec) -> bool:
    """Return whether a step keeps every pair in its band, or brings it closer."""
    return all(
        permitted(
            (before[pair.follower], before[pair.lead]),
            (after[pair.follower], after[pair.lead]),
            pair.band,
        )
        for pair in pairs_of(spec)
    )


def prefill_limits(decode: int, band: RatioSpec) -> Limits:
    """Return the limits of prefill for ``decode`` instances."""
    return band.limits(decode)


def prefill_for(decode: int, wish: int, band: RatioSpec) -> int:
    """Return the count nearest to ``wish`` inside the limits; never falls as either one grows."""
    low, high = prefill_limits(decode, band)
    return min(max(wish, low), high)


def decode_for(prefill: int, band: RatioSpec) -> int:
    """Return the fewest decode instances whose limits admit ``prefill`` instances."""
    decode = max(1, math.floor(prefill / band.max) - 1)
    # ceil(r_min × D) may admit it earlier than floor(r_max × D) does.
    while decode > 1 and prefill_limits(decode - 1, band).high >= prefill:
        decode -= 1
    while prefill_limits(decode, band).high < prefill:
        decode += 1
    return decode


def most_decode(prefill: int, band: RatioSpec) -> int:
    """Return the most decode instances whose limits admit ``prefill`` instances."""
    return max(decode_for(prefill, band), math.floor(prefill / band.min + _SLACK))


def distance(prefill: int, decode: int, band: RatioSpec) -> float:
    """Return how far outside its limits prefill is, per decode instance; 0 inside."""
    low, high = prefill_limits(decode, band)
    return max(low - prefill, prefill - high, 0) / max(decode, 1)


def permitted(before: tuple[int, int], after: tuple[int, int], band: RatioSpec) -> bool:
    """Return whether a change of (prefill, decode) keeps the ratio in its band, or comes closer."""
    outside = distance(*after, band)
    return outside == 0 or outside < distance(*before, band)


def is_fixed(band: RatioSpec) -> bool:
    """Return whether the ratio is the paper's fixed one: decode alone sizes both roles."""
    return band.max - band.min <= _SLACK
