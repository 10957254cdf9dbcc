"""The one rounding rule of prefill beside decode, against exact fractions and a naive search."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.policy import ratio
from heteroscale_coordinator.core.spec import RatioSpec

counts = st.integers(1, 400)
quotients = st.builds(Fraction, st.integers(1, 12), st.integers(1, 12))


@st.composite
def exact_bands(draw: st.DrawFn) -> tuple[Fraction, Fraction]:
    low, high = sorted((draw(quotients), draw(quotients)))
    return low, high


def band_of(exact: tuple[Fraction, Fraction]) -> RatioSpec:
    return RatioSpec(min=float(exact[0]), max=float(exact[1]))


def naive(decode: int, wish: int, exact: tuple[Fraction, Fraction]) -> int:
    """Take the whole number in the band nearest to the wish; none: the band's lower end, up."""
    low, high = exact[0] * decode, exact[1] * decode
    inside = [n for n in range(1, math.floor(high) + 1) if low <= n <= high]
    if not inside:
        return max(1, math.ceil(low))
    return min(inside, key=lambda n: abs(n - wish))


@given(decode=counts, wish=st.integers(0, 500), exact=exact_bands())
def test_rounding_agrees_with_exact_fractions(
    decode: int, wish: int, exact: tuple[Fraction, Fraction]
) -> None:
    assert ratio.prefill_for(decode, wish, band_of(exact)) == naive(decode, wish, exact)


@given(decode=counts, wish=st.integers(0, 500), exact=exact_bands())
def test_prefill_never_falls_as_decode_or_its_wish_grows(
    decode: int, wish: int, exact: tuple[Fraction, Fraction]
) -> None:
    band = band_of(exact)
    here = ratio.prefill_for(decode, wish, band)
    assert ratio.prefill_for(decode + 1, wish, band) >= here
    assert ratio.prefill_for(decode, wish + 1, band) >= here


@given(prefill=st.integers(1, 200), exact=exact_bands())
def test_decode_for_is_the_fewest_that_admit_prefill(
    prefill: int, exact: tuple[Fraction, Fraction]
) -> None:
    band = band_of(exact)
    found = ratio.decode_for(prefill, band)
    first = next(d for d in range(1, 10_000) if ratio.prefill_limits(d, band).high >= prefill)
    assert found == first


@given(before=st.tuples(counts, counts), after=st.tuples(counts, counts), exact=exact_bands())
def test_a_permitted_change_is_inside_the_band_or_nearer_to_it(
    before: tuple[int, int], after: tuple[int, int], exact: tuple[Fraction, Fraction]
) -> None:
    band = band_of(exact)
    low, high = ratio.prefill_limits(after[1], band)
    if ratio.permitted(before, after, band):
        inside = low <= after[0] <= high
        assert inside or ratio.distance(*after, band) < ratio.distance(*before, band)
    else:
        assert not low <= after[0] <= high


@pytest.mark.parametrize(
    ("decode", "prefill"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 4), (9, 5)]
)
def test_half_a_prefill_is_rounded_up(decode: int, prefill: int) -> None:
    assert ratio.prefill_for(decode, 0, RatioSpec(min=0.5, max=0.5)) == prefill


def test_a_third_of_three_is_one() -> None:
    third = RatioSpec(min=1 / 3, max=1 / 3)
    assert ratio.prefill_limits(3, third) == (1, 1)
    assert ratio.prefill_limits(300, third) == (100, 100)


def test_a_fixed_ratio_is_known_as_such() -> None:
    assert ratio.is_fixed(RatioSpec(min=0.5, max=0.5))
    assert not ratio.is_fixed(RatioSpec(min=0.25, max=0.5))
