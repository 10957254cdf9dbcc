"""Bounds always win: no function of this room passes a maximum, a budget, or its ratio's band."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heteroscale_coordinator.core.policy import bounds, ratio
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import A, D, P, aggregated_spec, spec_of

small = st.integers(1, 9)


@st.composite
def specs(draw: st.DrawFn) -> ServiceSpec:
    pairs = [sorted((draw(small), draw(small))) for _ in range(2)]
    low, high = sorted(draw(st.sampled_from([0.2, 0.25, 1 / 3, 0.5, 1.0, 2.0])) for _ in range(2))
    spec = spec_of(
        prefill=(pairs[0][0], pairs[0][1]),
        decode=(pairs[1][0], pairs[1][1]),
        ratio={"min": low, "max": high},
    )
    floor = pairs[0][0] + pairs[1][0]
    budget = draw(st.one_of(st.none(), st.integers(floor, floor + 12)))
    return spec.model_copy(update={"max_gpus": budget})


pairs_of = st.fixed_dictionaries({P: st.integers(0, 12), D: st.integers(0, 12)})


def inside(counts: Any, spec: ServiceSpec) -> bool:
    return all(rules.min <= counts[role] for role, rules in spec.roles.items()) and bounds.within(
        counts, spec
    )


@given(spec=specs(), wanted=pairs_of)
def test_clamped_counts_are_inside_every_bound(spec: ServiceSpec, wanted: Any) -> None:
    assert inside(bounds.clamp(wanted, spec), spec)


@given(spec=specs(), wanted=pairs_of)
def test_counts_inside_the_bounds_are_left_alone(spec: ServiceSpec, wanted: Any) -> None:
    if inside(wanted, spec):
        assert bounds.clamp(wanted, spec) == wanted


@given(spec=specs())
def test_a_service_starts_inside_its_bounds(spec: ServiceSpec) -> None:
    assert inside(bounds.starting_counts(spec), spec)


@given(spec=specs(), present=pairs_of, wish=pairs_of, held=st.integers(0, 5))
def test_growth_passes_no_bound_and_takes_nothing_away(
    spec: ServiceSpec, present: Any, wish: Any, held: int
) -> None:
    after = bounds.fit_out(present, wish, spec, held)
    assert all(after[role] >= present[role] for role in present)
    if after == present:
        return
    assert all(after[r] <= spec.roles[r].max for r in after if after[r] > present[r])
    assert spec.max_gpus is None or bounds.gpus(after, spec) + held <= spec.max_gpus
    assert ratio.permitted((present[P], present[D]), (after[P], after[D]), spec.ratio)


@given(spec=specs(), present=pairs_of, wish=pairs_of)
def test_shrinking_passes_no_minimum_and_adds_nothing(
    spec: ServiceSpec, present: Any, wish: Any
) -> None:
    after = bounds.fit_in(present, wish, spec)
    assert all(after[role] <= present[role] for role in present)
    for role, rules in spec.roles.items():
        assert after[role] >= min(rules.min, present[role])
    if after != present:
        assert ratio.permitted((present[P], present[D]), (after[P], after[D]), spec.ratio)


def naive_decode(present: Any, wish: Any, spec: ServiceSpec) -> int:
    """Try every pair of counts; return the most decode that any permitted growth to the wish has."""
    best: int = present[D]
    for decode in range(present[D], max(wish[D], present[D]) + 1):
        want = max(ratio.prefill_for(decode, wish[P], spec.ratio), present[P])
        short = ratio.prefill_limits(present[D], spec.ratio).low - present[P]
        if short > 0:
            # The ratio's share of the step, and a doubling of what was short of it.
            share = ratio.prefill_limits(decode, spec.ratio).low - present[P] - short
            want = min(want, present[P] + min(short, max(1, present[P])) + share)
        for prefill in range(present[P], want + 1):
            after = {P: prefill, D: decode}
            grown = [role for role in after if after[role] > present[role]]
            fits = all(after[role] <= spec.roles[role].max for role in grown)
            paid = spec.max_gpus is None or bounds.gpus(after, spec) <= spec.max_gpus
            pair = (present[P], present[D]), (prefill, decode)
            if grown and fits and paid and ratio.permitted(*pair, spec.ratio):
                best = max(best, decode)
    return best


@given(spec=specs(), present=pairs_of, wish=pairs_of)
def test_growth_finds_the_most_decode_that_any_pair_allows(
    spec: ServiceSpec, present: Any, wish: Any
) -> None:
    assert bounds.fit_out(present, wish, spec)[D] == naive_decode(present, wish, spec)


def test_a_new_service_starts_with_prefill_raised_to_the_ratio() -> None:
    assert bounds.starting_counts(spec_of(decode=(4, 8))) == {P: 2, D: 4}
    assert bounds.starting_counts(spec_of(prefill=(3, 8))) == {P: 3, D: 5}


def test_a_budget_shrinks_what_leaves_the_ratio_best() -> None:
    spec = spec_of().model_copy(update={"max_gpus": 9})
    assert bounds.clamp({P: 4, D: 8}, spec) == {P: 3, D: 6}


def test_one_role_alone_grows_to_its_maximum_and_budget() -> None:
    spec = aggregated_spec((1, 5))
    assert bounds.fit_out({A: 3}, {A: 9}, spec) == {A: 5}
    tight = spec.model_copy(update={"max_gpus": 4})
    assert bounds.fit_out({A: 3}, {A: 9}, tight) == {A: 4}
    assert bounds.fit_out({A: 3}, {A: 9}, tight, held=1) == {A: 3}
    assert bounds.fit_in({A: 3}, {A: 0}, spec) == {A: 1}


def test_repair_buys_what_the_budget_pays_for() -> None:
    spec = spec_of().model_copy(update={"max_gpus": 6})
    assert bounds.afford({P: 1, D: 2}, {P: 1, D: 3}, spec, held=1) == {P: 1, D: 1}
    assert bounds.afford({P: 2, D: 4}, {D: 1}, spec, held=0) == {}
