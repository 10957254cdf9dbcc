"""How many prefill instances go with how many decode instances.

One rounding rule for all: at least ``ceil(r_min × D)``, at most ``floor(r_max × D)``, and where no
whole number lies between, the lower limit, that is up, because a prefill too few starves decode
while one too many only costs. At least one. Both limits never fall as D grows, and so neither does
the result: a scale-out never takes prefill away.
"""

from __future__ import annotations

import math

from heteroscale_coordinator.core.spec import RatioSpec
from heteroscale_coordinator.core.spec.ratio import Limits

_SLACK = 1e-9


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
