"""The ratio advisor: what it concludes from what it sees, and how `adapt` follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.memory.ratio import RatioMemory
from heteroscale_coordinator.core.model import Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.advice import HORIZON, advice_of
from heteroscale_coordinator.core.resume import moved_on
from heteroscale_coordinator.core.spec import RatioSpec
from heteroscale_coordinator.core.sums import replay
from tests.core.policy.build import (
    NOW,
    D,
    Flow,
    P,
    aggregated_spec,
    decoding,
    many,
    prefilling,
    spec_of,
    view_of,
)

HALF = RatioSpec(min=0.5, max=0.5)
SEEN = RatioMemory(seen=HORIZON, at=NOW - 60, prefill=2.8, decode=4.0, since=NOW - 7200)
BAND = {"min": 0.25, "max": 1.0, "adapt": True}


def seen(memory: RatioMemory, *, prefill: Flow | None = None, **changes: Any) -> Verdict:
    """Decide where 2 prefill and 4 decode carry their load, after what ``memory`` has seen."""
    members = (*many(2, P, prefill or prefilling(7000)), *many(4, D, decoding(1000)))
    kept = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 1, ratio=memory)
    return decide(view_of(spec_of(**changes), *members, memory=kept))


def test_the_ratio_advised_is_what_demand_needs_of_both() -> None:
    found = seen(SEEN)
    assert found.inputs["ratio_advice"] == (
        "prefill-heavy by 1.40: ratio 0.5 → 0.7 advised because demand needs 2.80 prefill and 4.00 "
        "decode at target. Confidence 1.00, stands for 2.0 h"
    )
    assert replay(found.sums["ratio_advised"]) == pytest.approx(0.7)


def test_what_it_sees_becomes_a_mean_over_the_time_watched() -> None:
    """Prefill serves 14,000 of 5,000 each: 2.8 are needed; decode's 4,000 need 4."""
    first = seen(RatioMemory()).memory.ratio
    assert [first.prefill, first.decode] == pytest.approx([2.8, 4.0])
    assert (first.seen, first.at) == (60, NOW)
    known = RatioMemory(seen=180, at=NOW - 60, prefill=2.0, decode=4.0)
    assert seen(known).memory.ratio.prefill == pytest.approx((3 * 2.0 + 2.8) / 4)
    recent = replace(known, at=NOW - 30)
    assert seen(recent).memory.ratio == recent


def test_what_is_unknown_is_no_evidence() -> None:
    found = seen(
        SEEN, prefill=Flow(tokens=None, prompt=None, requests=None, running=3.0)
    ).memory.ratio
    assert (found.prefill, found.decode, found.seen) == (SEEN.prefill, SEEN.decode, SEEN.seen)


def test_confidence_grows_with_time_and_falls_with_what_speaks_against() -> None:
    full = advice_of(SEEN, HALF)
    short = advice_of(replace(SEEN, seen=HORIZON / 4), HALF)
    assert full is not None
    assert short is not None
    assert (full.confidence, short.confidence) == (1.0, 0.25)
    against = advice_of(replace(SEEN, latency=-0.5, activity=-0.4, queue=0.5), HALF)
    assert against is not None
    assert against.confidence == pytest.approx(3 / 5)
    assert "latency and SM activity speak against it" in against.because
    assert "queues point to prefill (+0.50)" in against.because


def test_rounding_is_no_reason_and_neither_is_nothing() -> None:
    assert advice_of(replace(SEEN, prefill=2.2), HALF) is None
    assert advice_of(RatioMemory(), HALF) is None
    assert advice_of(replace(SEEN, decode=0.0), HALF) is None


def test_inside_a_band_prefill_follows_anyway_and_beyond_it_the_band_is_named() -> None:
    assert advice_of(SEEN, RatioSpec(min=0.25, max=1.0)) is None
    found = advice_of(SEEN, RatioSpec(min=0.1, max=0.5))
    assert found is not None
    assert (found.now, found.heavy) == (0.5, P)


def test_how_long_it_stands_begins_anew_when_it_turns() -> None:
    assert seen(SEEN).memory.ratio.since == NOW - 7200
    turned = seen(replace(SEEN, prefill=1.0, seen=60), prefill=prefilling(14000)).memory.ratio
    assert turned.since == NOW
    assert seen(replace(SEEN, prefill=2.0), prefill=prefilling(5000)).memory.ratio.since is None


def test_time_that_nobody_watched_is_no_time_it_stood() -> None:
    later = moved_on(PolicyMemory(ratio=SEEN), 500.0)
    assert later.ratio.since == NOW - 6700


def test_queues_latency_and_sm_activity_are_seen() -> None:
    waiting = prefilling(7000, waiting=4.0, ttft=1.0)
    found = seen(RatioMemory(), prefill=waiting).memory.ratio
    assert found.queue == 1.0
    assert found.latency > 0.5
    assert found.activity is None


# ---- adapt ---------------------------------------------------------------------------------------


def test_adapt_holds_one_ratio_inside_the_band_and_begins_with_what_runs() -> None:
    found = seen(RatioMemory(), ratio=BAND)
    assert found.memory.ratio.held == 0.5
    assert found.inputs["ratio"] == "0.5 held inside 0.25 to 1"


def test_adapt_moves_by_a_step_and_then_waits() -> None:
    moved = seen(replace(SEEN, held=0.5), ratio=BAND).memory.ratio
    assert moved.held == pytest.approx(0.55)
    assert moved.moved_at == NOW
    early = replace(SEEN, held=0.5, moved_at=NOW - 900)
    assert seen(early, ratio=BAND).memory.ratio.held == 0.5
    young = replace(SEEN, held=0.5, since=NOW - 900)
    assert seen(young, ratio=BAND).memory.ratio.held == 0.5


def test_adapt_never_leaves_the_band_and_needs_confidence() -> None:
    narrow = {"min": 0.25, "max": 0.52, "adapt": True}
    assert seen(replace(SEEN, held=0.5), ratio=narrow).memory.ratio.held == 0.52
    unsure = replace(SEEN, held=0.5, seen=600)
    assert seen(unsure, ratio=BAND).memory.ratio.held == 0.5


def test_what_is_held_is_the_ratio_that_counts() -> None:
    """At 0.75 held, three prefill go with four decode, though the band would be content with two."""
    found = seen(RatioMemory(held=0.75, at=NOW), prefill=prefilling(2000), ratio=BAND)
    assert found.bound_by == "cooldown"
    assert "the ratio asks for 3" in found.reason


def test_a_band_without_adapt_forgets_what_was_held() -> None:
    found = seen(replace(SEEN, held=0.9, moved_at=NOW - 60), ratio={"min": 0.25, "max": 1.0})
    assert (found.memory.ratio.held, found.memory.ratio.moved_at) == (None, None)


def test_adapt_needs_a_band() -> None:
    with pytest.raises(ValidationError, match=r"adapt needs a band to move in"):
        RatioSpec(min=0.5, max=0.5, adapt=True)


def test_one_role_alone_has_no_ratio() -> None:
    found = decide(
        view_of(aggregated_spec(), *many(4, next(iter(aggregated_spec().roles)), decoding(900)))
    )
    assert found.memory.ratio == RatioMemory()
