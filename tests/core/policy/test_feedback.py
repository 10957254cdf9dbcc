"""Negative feedback on latency in tiers, as a net and as the driver."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.memory import Breach, PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.view import Member
from heteroscale_coordinator.core.spec import GuardSpec, ServiceSpec
from heteroscale_coordinator.edge.store.codec import decode, encode
from tests.core.policy.build import (
    IDLE,
    NOW,
    D,
    P,
    decoding,
    many,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)

TIERS = [{"breach": 1.1, "step": 0.1}, {"breach": 1.2, "step": 0.2}]
MILD, SEVERE = 0.0575, 0.065
"""TBT of 1.15 and 1.3 times the SLO of 50 ms."""


def tiered(**policy: Any) -> ServiceSpec:
    return spec_of(
        prefill=(1, 64), decode=(1, 64), guard={"tiers": TIERS}, **{"ratio": 0.5, **policy}
    )


def at(tbt: float, *others: Member, spec: ServiceSpec | None = None, **memory: Any) -> Verdict:
    """Return the verdict for 10 prefill and 20 decode at a mean TBT; what starts comes on top."""
    members = (*many(10, P, prefilling(4000)), *many(20, D, decoding(950, tbt=tbt)), *others)
    view = view_of(spec or tiered(), *members)
    known = PolicyMemory(wanted=view.present(), **{"low_since": None, **memory})
    return decide(view_of(spec or tiered(), *members, memory=known))


def breach(given: int, ago: float) -> dict[str, Any]:
    """Return the memory of a breach of 10 and 20 whose newest step added ``given`` decode."""
    since = Breach(NOW - 400, {P: 10, D: 20}, NOW - ago, {D: given})
    return {"breach": since, "last_guard_at": NOW - ago}


@pytest.mark.parametrize(("tbt", "more"), [(0.054, 0), (MILD, 2), (SEVERE, 4)])
def test_the_severest_tier_that_is_exceeded_gives_the_step(tbt: float, more: int) -> None:
    found = at(tbt)
    assert found.delta.get(D, 0) == more
    assert found.action is (Action.SCALE_OUT if more else Action.HOLD)


def test_a_breach_that_becomes_severe_adds_the_difference_and_no_more() -> None:
    found = at(SEVERE, starting(D), starting(D), starting(P), **breach(2, ago=20))
    assert found.delta == {D: 2, P: 1}
    assert found.sums["guard_step"].terms == {"size": 4, "given": 2, "pending": 2}
    again = at(SEVERE, *(starting(r) for r in (D, D, D, D, P, P)), **breach(4, ago=20))
    assert again.action is Action.HOLD


def test_a_breach_that_stays_mild_adds_nothing_until_the_step_has_had_its_time() -> None:
    assert at(MILD, **breach(2, ago=134)).bound_by == "guard"
    assert at(MILD, **breach(2, ago=134)).action is Action.HOLD
    later = at(MILD, **breach(2, ago=135))
    assert later.delta[D] == 2, "of the twenty when it began, whatever serves now"


def test_what_demand_added_since_starts_the_time_anew_also_for_a_severer_tier() -> None:
    memory = {**breach(2, ago=60), "last_out_at": NOW - 20}
    assert at(SEVERE, **memory).action is Action.HOLD


def test_part_of_a_step_that_is_still_starting_is_not_asked_for_twice() -> None:
    found = at(SEVERE, starting(D), starting(P), **breach(4, ago=200))
    assert found.delta[D] == 3


def test_no_tiers_no_guard() -> None:
    found = at(SEVERE, spec=spec_of(prefill=(1, 64), decode=(1, 64), guard={"tiers": []}))
    assert (found.action, found.memory.breach) == (Action.HOLD, None)


@pytest.mark.parametrize("tbt", [MILD, SEVERE, 1.0])
def test_a_step_never_leaves_the_ratios_band(tbt: float) -> None:
    spec = tiered(ratio={"min": 0.4, "max": 0.6})
    found = at(tbt, spec=spec)
    prefill, decodes = 10 + found.delta.get(P, 0), 20 + found.delta.get(D, 0)
    assert found.delta[D] > 0
    assert 0.4 <= prefill / decodes <= 0.6


# ---- the driver ----------------------------------------------------------------------------------


def driven(tbt: float | None, *others: Member, **memory: Any) -> Verdict:
    spec = tiered(driver="latency")
    members = (*many(10, P, prefilling(100)), *many(20, D, decoding(5000, tbt=tbt)), *others)
    known = PolicyMemory(**{"wanted": {P: 10, D: 20}, "low_since": NOW - 3600, **memory})
    return decide(view_of(spec, *members, memory=known))


def test_tokens_do_not_size_a_service_that_latency_drives() -> None:
    found = driven(0.048)
    assert (found.action, found.bound_by) == (Action.HOLD, "latency")
    assert "tbt 48 ms of 50 ms" in found.reason


def test_it_grows_by_tiers() -> None:
    assert driven(SEVERE).delta == {D: 4, P: 2}


def test_surplus_leaves_though_nobody_can_tell_how_much_less_would_do() -> None:
    surplus = {P: 9, D: 18}
    assert driven(0.048, wanted=surplus).action is Action.HOLD, "tbt does not consent"
    found = driven(0.02, wanted=surplus)
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "wanted")
    assert found.delta == {P: 1, D: 2}


def test_below_its_share_it_shrinks_by_its_own_small_step() -> None:
    found = driven(0.04)
    assert (found.action, found.delta) == (Action.SCALE_IN, {D: 1}), "ten beside 19 is the ratio"
    assert found.sums["step_in_decode"].value == 1


def test_between_below_and_breach_it_holds_and_unknown_shrinks_nothing() -> None:
    assert driven(0.046).action is Action.HOLD
    unknown = driven(None)
    assert (unknown.action, unknown.bound_by) == (Action.HOLD, "coverage")
    assert unknown.reason == "Nobody tells tbt."


def test_it_shrinks_only_once_low_for_the_long_window_and_after_the_cooldown() -> None:
    assert driven(0.04, low_since=NOW - 30).action is Action.HOLD
    assert driven(0.04, last_in_at=NOW - 599).bound_by == "cooldown"


def test_an_idle_service_shrinks_to_its_minimum_by_steps() -> None:
    spec = tiered(driver="latency")
    members = (*many(2, P, IDLE), *many(4, D, IDLE))
    found = decide(view_of(spec, *members))
    assert found.action is Action.SCALE_IN
    least = decide(view_of(spec, *many(1, P, IDLE), *many(1, D, IDLE)))
    assert least.action is Action.HOLD


@pytest.mark.parametrize(
    ("before", "bound_by"),
    [(80_000.0, "demand"), (100_000.0, "observation"), (None, "observation")],
)
def test_tokens_tell_whether_a_breach_is_the_scale_ins_fault(
    before: float | None, bound_by: str
) -> None:
    """Latency cannot: it may have risen because of the scale-in. Nor can what was unknown."""
    soft = SoftScaleIn("dec-1", NOW - 60, NOW + 240, before, prefill=None)
    found = driven(SEVERE, withdrawn(D), soft=soft, last_in_at=NOW - 60)
    assert (found.action, found.bound_by) == (Action.REINSTATE, bound_by)
    assert (found.done.cooldown_in_factor == 2) is (bound_by == "observation")


def test_what_is_watched_is_told_by_what_drives() -> None:
    soft = SoftScaleIn("dec-1", NOW - 60, NOW + 240, None)
    found = driven(0.02, withdrawn(D), soft=soft, last_in_at=NOW - 60)
    assert found.reason.startswith("1 decode withdrawn and watched; latency: ttft ")


# ---- what is written -----------------------------------------------------------------------------


def test_a_single_breach_and_step_are_one_tier() -> None:
    short = GuardSpec.model_validate({"breach": 1.3, "step": 0.2, "startup": "90s"})
    assert [(tier.breach, tier.step) for tier in short.tiers] == [(1.3, 0.2)]
    assert short.startup == 90.0
    assert GuardSpec.model_validate({"step": 0.2}).tiers[0].breach == 1.1
    assert GuardSpec().tiers == GuardSpec.model_validate({"breach": 1.1, "step": 0.1}).tiers


def test_the_store_reads_what_was_stored_before_there_were_tiers() -> None:
    stored = json.loads(json.dumps(encode(tiered())))
    assert decode(ServiceSpec, stored, "chat") == tiered()
    stored["policy"]["guard"] = {"breach": 1.1, "step": 0.1, "startup": 120.0}
    assert len(decode(ServiceSpec, stored, "chat").policy.guard.tiers) == 1
    old = {"since": 1.0, "counts": {"decode": 4}, "last_step_at": None}
    assert decode(Breach, old, "chat").given == {}


@pytest.mark.parametrize(
    ("guard", "says"),
    [
        ({"tiers": TIERS, "breach": 1.1}, "move them into tiers"),
        ({"tiers": TIERS[::-1]}, "from mild to severe"),
        ({"tiers": [{"breach": 1.1}]}, "step"),
    ],
)
def test_what_cannot_be_is_refused(guard: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec_of(guard=guard)


@pytest.mark.parametrize(
    ("more", "says"),
    [({"slo": {}}, "slo.ttft"), ({"guard": {"tiers": []}}, "needs `guard.tiers`")],
)
def test_latency_drives_only_with_a_promise_and_tiers(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec_of(driver="latency", **more)
