"""The proportional law on any linear signal, beside demand and alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.view import Member
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.core.sums import replay
from tests.core.policy.build import (
    NOW,
    D,
    P,
    aggregated_spec,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
    withdrawn,
)

SM: dict[str, Any] = {"signal": "prefill_sm_activity", "target": 0.5}


def driven(*signals: dict[str, Any], **policy: Any) -> ServiceSpec:
    """Return a service that signals alone drive, at one prefill for two decode."""
    return spec_of(driver="signals", signals=list(signals or (SM,)), **policy)


def prefills(n: int, *sm: int, **changes: Any) -> tuple[Member, ...]:
    return many(n, P, *(prefilling(100.0, sm=percent) for percent in sm), **changes)


def decodes(n: int, **changes: Any) -> tuple[Member, ...]:
    return many(n, D, decoding(100.0, **changes))


def decided(spec: ServiceSpec, *members: Member, **changes: Any) -> Verdict:
    return decide(view_of(spec, *members, **changes))


def test_needed_is_count_times_mean_over_target_and_decode_follows_the_ratio() -> None:
    found = decided(driven(), *prefills(4, 75), *decodes(8))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "signals")
    assert found.delta == {P: 2, D: 4}
    assert "Signal prefill_sm_activity is 150 % of its target, above 110 %" in found.reason


def test_its_arithmetic_can_be_done_again() -> None:
    found = decided(driven(), *prefills(4, 75), *decodes(8))
    assert found.sums["needed_prefill_sm_activity"].value == 6
    assert all(replay(one) == one.value for one in found.sums.values())


@pytest.mark.parametrize(("percent", "delta"), [(55, {}), (56, {P: 1, D: 2})])
def test_hysteresis_holds_it_up_to_one_plus_theta(percent: int, delta: dict[Any, int]) -> None:
    assert decided(driven(), *prefills(4, percent), *decodes(8)).delta == delta


def test_what_is_starting_is_counted_and_dilutes_so_nothing_cascades() -> None:
    members = (*prefills(4, 75), starting(P), starting(P), *decodes(12))
    found = decided(driven(), *members)
    assert found.action is Action.HOLD
    assert found.sums["R_prefill_sm_activity"].value == pytest.approx(1.0)


def test_one_step_at_most_doubles_and_a_cooldown_holds_the_next() -> None:
    far = decided(driven({**SM, "target": 0.1}), *prefills(2, 90), *decodes(4))
    assert (far.delta, far.bound_by) == ({P: 2, D: 4}, "step")
    memory = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 10)
    again = decided(driven({**SM, "target": 0.1}), *prefills(2, 90), *decodes(4), memory=memory)
    assert (again.action, again.bound_by) == (Action.HOLD, "cooldown")


def test_scale_in_takes_half_of_the_surplus_once_low_for_the_long_window() -> None:
    found = decided(driven(), *prefills(8, 10), *decodes(16))
    # 8 × 0.1 ÷ 0.5 = 1.6, at 0.9 of the target: 2 needed of 8, half of the six go.
    assert (found.action, found.delta) == (Action.SCALE_IN, {P: 3, D: 6})
    assert found.reason.startswith("Signal prefill_sm_activity is 20 % of its target")


def test_the_highest_use_in_the_long_window_counts_for_scale_in() -> None:
    busy_before = prefills(8, 45, 10, each=30.0)
    found = decided(driven(), *busy_before, *decodes(16))
    assert found.action is Action.HOLD


def test_an_unheard_instance_counts_at_its_full_target_for_scale_in() -> None:
    members = (*prefills(7, 10), member(P, prefilling(100.0, sm=10), heard_for=30.0))
    found = decided(driven(), *members, *decodes(16))
    # 8 × 0.2 + 1 = 2.6 at 0.9: 3 needed of 8.
    assert found.sums["fewest_prefill_sm_activity"].value == 3


def test_nobody_tells_it_and_nothing_is_done() -> None:
    found = decided(driven(), *many(4, P, prefilling(100.0)), *decodes(8))
    assert (found.action, found.bound_by) == (Action.HOLD, "coverage")
    assert found.reason == "Nobody tells prefill_sm_activity."


def test_half_of_them_tell_it_and_the_rest_count_as_those_do() -> None:
    told, untold = prefills(2, 75), many(2, P, prefilling(100.0))
    assert decided(driven(), *told, *untold, *decodes(8)).delta == {P: 2, D: 4}


def test_tokens_do_not_size_a_service_that_signals_drive() -> None:
    hot = many(8, D, decoding(1500.0))
    assert decided(driven(), *prefills(4, 50), *hot).action is Action.HOLD


def test_targets_by_gpu_type_and_the_worst_type_counts() -> None:
    signal = {"signal": "decode_tps", "target": {"H20": 1000.0, "L20": 500.0}}
    cool = many(2, D, decoding(900.0), gpu_type="H20")
    hot = many(2, D, decoding(600.0), gpu_type="L20")
    found = decided(driven(signal), *prefills(2, 50), *cool, *hot)
    # All: (0.9 × 2 + 1.2 × 2) ÷ 4 = 1.05 would hold; L20 alone is at 1.2.
    assert (found.action, found.delta) == (Action.SCALE_OUT, {D: 1, P: 1})
    assert "on L20 is 120 % of its target" in found.reason


def test_beside_demand_the_largest_need_wins_and_its_floor_holds_scale_in() -> None:
    spec = spec_of(signals=[{"signal": "decode_running", "target": 8.0}])
    busy = decoding(200.0, running=12.0)
    found = decided(spec, *many(2, P, prefilling(100.0)), *many(4, D, busy))
    assert (found.action, found.bound_by, found.delta) == (
        Action.SCALE_OUT,
        "signals",
        {D: 2, P: 1},
    )
    enough = decoding(200.0, running=6.0)
    held = decided(spec, *many(4, P, prefilling(100.0)), *many(8, D, enough))
    # Tokens alone would spare most of the eight; 8 × 6 ÷ 8 ÷ 0.9 asks for seven.
    assert held.action is Action.SCALE_IN
    assert held.delta[D] == 1


def test_several_signals_and_the_larger_need_of_each_role() -> None:
    signals = (SM, {"signal": "decode_running", "target": 2.0})
    found = decided(driven(*signals), *prefills(4, 100), *decodes(8, running=3.0))
    assert found.delta == {P: 4, D: 8}
    assert "prefill_sm_activity" in found.reason
    assert "decode_running" in found.reason


@pytest.mark.parametrize(
    ("kind", "flow", "per_instance"),
    [
        ("tps", decoding(800.0), 800.0),
        ("arriving_tps", decoding(800.0), 800.0),
        ("arrival_rate", decoding(800.0), 4.0),
        ("running", decoding(800.0, running=7.0), 7.0),
        ("in_flight", decoding(800.0, running=7.0, waiting=2.0), 9.0),
        ("kv_usage", decoding(800.0, kv_usage=0.4), 0.4),
        ("gpu_util", decoding(800.0, gpu=90), 0.9),
        ("sm_activity", decoding(800.0, sm=30), 0.3),
        ("rdma_share", decoding(800.0, rdma=20), 0.2),
    ],
)
def test_every_linear_reading_can_be_a_signal(kind: str, flow: Any, per_instance: float) -> None:
    signal = {"signal": f"decode_{kind}", "target": per_instance / 2}
    found = decided(driven(signal), *prefills(2, 50), *many(4, D, flow))
    assert found.sums[f"R_decode_{kind}"].value == pytest.approx(2.0, rel=0.02)


def test_an_ordinary_service_uses_the_same_law() -> None:
    spec = aggregated_spec(
        driver="signals", signals=[{"signal": "aggregated_sm_activity", "target": 0.5}]
    )
    members = tuple(
        replace(one, instance=replace(one.instance, role=next(iter(spec.roles))))
        for one in many(4, D, decoding(100.0, sm=75))
    )
    assert sum(decided(spec, *members).delta.values()) == 2


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"signals": [{"signal": "decode_tbt", "target": 1}]}, "policy.driver: latency"),
        ({"signals": [{"signal": "prefill_load", "target": 1}]}, "sm_activity"),
        ({"signals": [{"signal": "aggregated_tps", "target": 1}]}, "no role of this service"),
        ({"signals": [SM, SM]}, "named once"),
        ({"driver": "signals"}, "driver: signals needs `signals`"),
    ],
)
def test_what_cannot_be_is_refused_and_the_fix_is_named(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says.replace("(", r"\(")):
        spec_of(**policy)


# ---- a signal on one side alone ------------------------------------------------------------------


def test_decode_s_own_signal_takes_prefill_along_when_it_shrinks() -> None:
    spec = driven({"signal": "decode_running", "target": 10.0})
    low = decided(spec, *many(4, P, prefilling(100.0)), *decodes(8, running=2.0))
    assert low.action is Action.SCALE_IN
    # 8 × 0.2 ÷ 0.9 asks for two of eight: half of the surplus leaves, and prefill keeps the ratio.
    assert low.delta == {D: 3, P: 1}


def test_in_a_band_decode_stays_where_only_prefill_is_measured() -> None:
    spec = driven(SM, ratio={"min": 0.25, "max": 1.0})
    found = decided(spec, *prefills(4, 100), *decodes(8))
    assert found.delta == {P: 4}


@pytest.mark.parametrize(("before", "factor"), [(1.6, 1.0), (3.2, 2.0)])
def test_whether_demand_rose_since_a_withdrawal_is_told_by_the_signal(
    before: float, factor: float
) -> None:
    """Two at 80 % of SM use 3.2 targets of one half; tokens are the same as they were."""
    soft = SoftScaleIn("dec-1", NOW - 30, NOW + 60, 200.0, 200.0, signals={SM["signal"]: before})
    memory = PolicyMemory(wanted={P: 2, D: 4}, soft=soft, last_in_at=NOW - 30)
    members = (*prefills(2, 80), *decodes(4), withdrawn(P), withdrawn(D))
    found = decided(driven(), *members, memory=memory)
    assert found.action is Action.REINSTATE
    assert found.done.cooldown_in_factor == factor


@pytest.mark.parametrize(("sm", "action"), [(20, Action.SCALE_IN), (47, Action.HOLD)])
def test_surplus_leaves_where_what_remains_carries_the_signal(sm: int, action: Action) -> None:
    wanted = PolicyMemory(wanted={P: 3, D: 6})
    found = decided(driven(), *prefills(4, sm), *decodes(8), memory=wanted)
    assert found.action is action
    if action is Action.SCALE_IN:
        assert (found.delta, found.bound_by) == ({P: 1, D: 2}, "wanted")
    else:
        # 4 × 0.47 ÷ 0.5 ÷ 0.9 needs more than the three that would remain.
        assert "remaining.prefill (4 needed: prefill_sm_activity" in found.reason
