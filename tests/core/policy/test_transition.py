"""A new ratio is approached step by step: what grows first, then what leaves, softly, by consent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import bounds, decide, ratio
from tests.core.policy.build import (
    NOW,
    D,
    P,
    decoding,
    many,
    prefilling,
    spec_of,
    view_of,
    withdrawn,
)

FINE = decoding(950)


def standing(prefills: int, decodes: int, **changes: Any) -> Any:
    """Return the verdict on so many that carry their load."""
    memory = changes.pop("memory", None)
    members = (*many(prefills, P, prefilling(900)), *many(decodes, D, FINE))
    return decide(view_of(spec_of(**changes), *members, memory=memory))


def test_prefill_grows_by_a_step_not_to_the_ratio_at_once() -> None:
    found = standing(2, 4, ratio=3, prefill=(1, 32))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_OUT, {P: 2}, "ratio")
    assert "the ratio asks for 12" in found.reason
    assert found.done.last_out_at == NOW


def test_it_waits_for_the_cooldown() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 100)
    found = standing(2, 4, ratio=3, prefill=(1, 32), memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "cooldown")


def test_a_new_ratio_is_no_repair() -> None:
    """Where another bound moves at the same time, wanted prefill grows by decode's share alone."""
    found = standing(2, 4, ratio=2, prefill=(1, 32), decode=(5, 32))
    assert (found.action, found.delta) == (Action.REPAIR, {P: 2, D: 1})
    assert found.memory.wanted == {P: 4, D: 5}


def test_a_demand_step_takes_its_share_along_and_a_step_of_what_is_missing() -> None:
    members = (*many(2, P, prefilling(900)), *many(4, D, decoding(1250)))
    found = decide(view_of(spec_of(ratio=3, prefill=(1, 32)), *members))
    assert (found.action, found.delta) == (Action.SCALE_OUT, {P: 5, D: 1})


def test_withdrawn_prefill_comes_back_before_any_is_launched() -> None:
    members = (*many(2, P, prefilling(900)), *many(4, D, FINE), withdrawn(P))
    soft = SoftScaleIn("dec-1", NOW - 30, NOW + 270, 3800.0)
    memory = PolicyMemory(wanted={P: 2, D: 4}, soft=soft)
    found = decide(view_of(spec_of(ratio=2), *members, memory=memory))
    assert (found.action, found.delta, found.bound_by) == (Action.REINSTATE, {P: 1}, "ratio")
    assert found.done.soft is None
    assert found.done.wanted[P] == 3


def test_where_prefill_cannot_grow_decode_leaves_softly() -> None:
    calm = (*many(4, P, prefilling(900)), *many(8, D, decoding(300)))
    spec = spec_of(ratio=1, prefill=(1, 4))
    found = decide(view_of(spec, *calm, memory=PolicyMemory(wanted={P: 4, D: 8})))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_IN, {D: 2}, "ratio")
    busy = (*many(4, P, prefilling(900)), *many(8, D, FINE))
    kept = decide(view_of(spec, *busy))
    assert kept.action is Action.HOLD


def test_what_an_operator_wants_fewer_of_stays_wanted_while_the_ratio_is_mended() -> None:
    """Six decode run and four are wanted: what prefill lacks beside four is launched, and four it is."""
    memory = PolicyMemory(wanted={P: 1, D: 4})
    found = standing(1, 6, memory=memory)
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_OUT, {P: 1}, "ratio")
    assert found.done.wanted == {P: 2, D: 4}


@pytest.mark.parametrize("wanted", [2, 4])
@pytest.mark.parametrize(("load", "leaves"), [(2000, True), (4900, False)])
def test_surplus_prefill_of_a_fixed_ratio_stays_while_its_own_peak_needs_it(
    load: float, leaves: bool, wanted: int
) -> None:
    """Whether it is more than the ratio allows, or than an operator wants."""
    members = (*many(4, P, prefilling(load)), *many(4, D, FINE))
    found = decide(view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: wanted, D: 4})))
    if leaves:
        assert (found.action, found.delta) == (Action.SCALE_IN, {P: 1})
    else:
        assert (found.action, found.bound_by) == (Action.HOLD, "consent")
        assert "remaining.prefill (" in found.reason


@pytest.mark.parametrize("waiting", [None, 5.0])
def test_what_is_too_many_leaves_by_consent_alone(waiting: float | None) -> None:
    members = (*many(4, P, prefilling(900)), *many(4, D, decoding(950, waiting=waiting)))
    found = decide(view_of(spec_of(ratio=0.25), *members))
    assert (found.action, found.bound_by) == (Action.HOLD, "consent")


def test_a_scale_in_by_demand_cuts_no_more_than_a_share_of_what_strays() -> None:
    """Eight prefill beside eight decode at 1:4 from now on: the stray of six leaves by its half."""
    spec = spec_of(ratio=0.25)
    after = bounds.fit_in({P: 8, D: 8}, {P: 2, D: 6}, spec)
    assert after == {P: 5, D: 6}


@settings(max_examples=200, deadline=None)
@given(
    pair=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    band=st.tuples(st.floats(0.1, 4), st.floats(0, 2)),
    share=st.floats(0.05, 1),
    load=st.sampled_from([300.0, 950.0, 1300.0]),
)
def test_no_step_is_a_cliff_and_none_leads_away(
    pair: tuple[int, int], band: tuple[float, float], share: float, load: float
) -> None:
    """Played to its end: every step comes closer or stays inside, and none passes its limit."""
    spec = spec_of(
        ratio={"min": band[0], "max": sum(band)},
        prefill=(1, 60),
        decode=(1, 30),
        max_step_out=share,
    )
    counts = {P: pair[0], D: pair[1]}
    memory = PolicyMemory(wanted=counts)
    for _ in range(4):
        members = (*many(counts[P], P, prefilling(900)), *many(counts[D], D, decoding(load)))
        found = decide(view_of(spec, *members, memory=memory))
        if found.action not in (Action.SCALE_OUT, Action.SCALE_IN):
            return
        sign = 1 if found.action is Action.SCALE_OUT else -1
        after = {role: n + sign * found.delta.get(role, 0) for role, n in counts.items()}
        pairs = [(c[P], c[D]) for c in (counts, after)]
        assert ratio.permitted(pairs[0], pairs[1], spec.ratio)
        if sign > 0:
            follows = ratio.prefill_limits(after[D], spec.ratio).low
            follows -= ratio.prefill_limits(counts[D], spec.ratio).low
            limit = max(1, int(counts[P] * share + 1e-9))
            short = counts[P] < ratio.prefill_limits(counts[D], spec.ratio).low
            assert not short or found.delta.get(P, 0) <= follows + limit
        memory, counts = replace(found.done, last_out_at=None, last_in_at=None, soft=None), after
