"""Scale-out: by demand, by the worst GPU type, by prefill's own demand, by a choked prefill."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, ServiceView, decide
from heteroscale_coordinator.core.sums import same
from tests.core.policy.build import (
    IDLE,
    NOW,
    A,
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
)

CALM = many(2, P, prefilling(4500))


def verdict(*decode: Member, spec: object = None, memory: PolicyMemory | None = None) -> Verdict:
    chosen = spec_of() if spec is None else spec
    return decide(view_of(chosen, *CALM, *decode, memory=memory))  # type: ignore[arg-type]


def test_demand_above_the_tolerance_scales_out_both_roles() -> None:
    found = verdict(*many(4, D, decoding(1200)))
    assert (found.action, found.delta) == (Action.SCALE_OUT, {P: 1, D: 1})
    assert found.done.wanted == {P: 3, D: 5}
    assert found.done.last_out_at == NOW
    assert found.inputs["R"] == "1.200 = 4800.0 ÷ 4000.0"
    assert "120 % of supply" in found.reason


def test_demand_inside_the_tolerance_holds_with_its_arithmetic() -> None:
    found = verdict(*many(4, D, decoding(1050)))
    assert (found.action, found.bound_by) == (Action.HOLD, "demand")
    assert found.inputs["Q"].startswith("4200.0 tok/s = max(served 4200.0, arrivals")
    assert found.inputs["S"] == "4000.0 tok/s = 4 × 1000 H20"


def test_arrivals_show_what_served_tokens_hide() -> None:
    """Decode serves its capacity while twice as many requests arrive and pile up."""
    flow = decoding(1000, waiting=70.0, waiting_growth=5.0)
    found = verdict(*many(4, D, flow))
    assert found.action is Action.SCALE_OUT
    assert found.delta[D] >= 3


def test_the_papers_own_signal_is_blind_to_them() -> None:
    flow = decoding(1000, waiting=70.0, waiting_growth=5.0)
    spec = spec_of(demand="served", slo={})
    assert verdict(*many(4, D, flow), spec=spec).action is Action.HOLD


def test_a_rise_is_sized_by_its_newest_third() -> None:
    """The last 5 s ask for twice as much; the window of 15 s still holds the calm before."""
    calm, surge = decoding(1000), decoding(2000)
    found = verdict(*(member(D, calm, surge, each=5) for _ in range(4)))
    assert found.delta[D] == 4


def test_chance_is_no_rise() -> None:
    """Nine requests in a window where eight were expected: √9 is as likely."""
    flow = replace(decoding(1000, output=1667.0), waiting=0.6, waiting_growth=0.04, running=5.0)
    found = decide(view_of(spec_of(slo={}), *many(2, P, IDLE), *many(4, D, flow)))
    arrivals = float(found.inputs["Q"].split("arrivals ")[1].split("/s")[0])
    assert arrivals == pytest.approx(2.56 * (1 - 1 / (2.56 * 15) ** 0.5), abs=0.02)


def test_a_standing_backlog_is_demand() -> None:
    found = verdict(*many(4, D, decoding(1000, waiting=30.0)))
    assert found.action is Action.SCALE_OUT
    assert "+ backlog 120.0 × 200 ÷ 30s" in found.inputs["Q"]


def test_pending_counts_so_nothing_cascades() -> None:
    busy = many(4, D, decoding(1200))
    found = verdict(*busy, starting(D), starting(P))
    assert found.action is Action.HOLD


def test_a_step_is_at_most_its_share_of_the_present() -> None:
    spec = spec_of(max_step_out=0.5)
    found = verdict(*many(4, D, decoding(3000)), spec=spec)
    assert (found.delta, found.bound_by) == ({P: 1, D: 2}, "step")


def test_a_step_ends_at_the_maximum() -> None:
    found = verdict(*many(4, D, decoding(3000)), spec=spec_of(decode=(1, 5)))
    assert (found.delta, found.bound_by) == ({P: 1, D: 1}, "bounds")
    full = verdict(*many(4, D, decoding(3000)), spec=spec_of(decode=(1, 4)))
    assert (full.action, full.bound_by) == (Action.HOLD, "bounds")


def test_gpus_of_draining_instances_are_still_paid_for() -> None:
    spec = spec_of().model_copy(update={"max_gpus": 8})
    busy = many(4, D, decoding(1200))
    assert verdict(*busy, spec=spec).delta == {P: 1, D: 1}
    draining = member(D, IDLE, state=InstanceState.DRAINING)
    assert verdict(*busy, draining, spec=spec).bound_by == "bounds"


def test_the_cooldown_holds_and_says_so() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 100)
    found = verdict(*many(4, D, decoding(1200)), memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "cooldown")
    assert found.inputs["cooldown_out"] == "80 s left of 180 s × 1"
    late = replace(memory, last_out_at=NOW - 180)
    assert verdict(*many(4, D, decoding(1200)), memory=late).action is Action.SCALE_OUT


def test_backoff_after_failed_launches_holds_and_says_so() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, launch_after=NOW + 30, launch_failures=3)
    found = verdict(*many(4, D, decoding(1200)), memory=memory)
    assert (found.action, found.bound_by) == (Action.HOLD, "backoff")
    assert found.inputs["launch_after"] == "30 s left after 3 failures"


def test_the_worst_gpu_type_asks_for_itself() -> None:
    """Three strong ones at 70 %, a weak one at 130 %: the whole is fine, the weak one is not."""
    spec = spec_of(target={"H20": 2000.0, "L20": 1000.0})
    mixed = (
        *many(3, D, decoding(1400), gpu_type="H20"),
        member(D, decoding(1300), gpu_type="L20"),
    )
    found = verdict(*mixed, spec=spec)
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "gpu_type")
    line = found.sums["needed"]
    assert (line.value, line.terms["present"], same(line)) == (6, 4, True)
    assert found.inputs["R_worst_type"] == "1.300 on L20"
    assert found.delta[D] == 2
    pending = (starting(D, gpu_type="L20"), starting(D, gpu_type="L20"), starting(P))
    relieved = verdict(*mixed, *pending, spec=spec)
    assert relieved.action is not Action.SCALE_OUT


def test_a_moments_spike_of_one_type_is_noise() -> None:
    spec = spec_of(target={"H20": 2000.0, "L20": 1000.0})
    spike = member(D, decoding(800), decoding(1400), each=15, gpu_type="L20")
    found = verdict(*many(3, D, decoding(1400), gpu_type="H20"), spike, spec=spec)
    assert found.action is not Action.SCALE_OUT


def test_only_the_fresh_are_read_for_the_ratio() -> None:
    half = (*many(2, D, decoding(1200)), *many(2, D, decoding(1), silent_for=60))
    found = verdict(*half)
    assert (found.action, found.delta) == (Action.SCALE_OUT, {P: 1, D: 1})


def test_below_coverage_nothing_is_decided() -> None:
    found = verdict(*many(1, D, decoding(2000)), *many(3, D))
    assert (found.action, found.bound_by) == (Action.HOLD, "coverage")
    assert "1 of 4 decode" in found.reason


def test_prefill_follows_its_own_demand_inside_its_band() -> None:
    spec = spec_of(ratio={"min": 0.25, "max": 1.0})
    members = (*many(2, P, prefilling(6000)), *many(4, D, decoding(950)))
    found = decide(view_of(spec, *members))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_OUT, {P: 1}, "prefill")


def test_at_a_fixed_ratio_decode_alone_sizes_both() -> None:
    members = (*many(2, P, prefilling(9000)), *many(4, D, decoding(950)))
    assert decide(view_of(spec_of(), *members)).action is Action.HOLD


CHOKED = prefilling(5000, waiting=30.0, waiting_growth=2.0)
"""Five requests a second end, seven arrive."""


@pytest.mark.parametrize(
    ("ratio", "delta"), [(0.5, {P: 1, D: 1}), ({"min": 0.25, "max": 1.0}, {P: 1})]
)
def test_a_choked_prefill_scales_out_with_decode_where_the_band_demands_it(
    ratio: object, delta: dict[Role, int]
) -> None:
    spec = spec_of(ratio=ratio, prefill_target=20_000.0, slo={})
    found = decide(view_of(spec, *many(2, P, CHOKED), *many(4, D, decoding(500))))
    assert (found.action, found.delta) == (Action.SCALE_OUT, delta)
    assert "wait at prefill, while decode serves 2000 of" in found.reason
    line = found.sums["needed_choked"]
    assert (line.value, line.terms["settled"], same(line)) == (3, 2, True)


def test_a_prefill_choked_by_little_is_seen_by_its_own_queue() -> None:
    slowly = prefilling(5000, waiting=60.0, waiting_growth=0.3)
    spec = spec_of(prefill_target=20_000.0, slo={})
    found = decide(view_of(spec, *many(2, P, slowly), *many(4, D, decoding(500))))
    assert found.action is Action.SCALE_OUT
    assert "wait at prefill, which serves 10000 of" in found.reason


def test_what_starts_already_is_no_reason_to_start_more() -> None:
    spec = spec_of(prefill_target=20_000.0, slo={})
    members = (*many(2, P, CHOKED), *many(4, D, decoding(500)))
    pending = (starting(P), starting(D))
    assert decide(view_of(spec, *members, *pending)).action is Action.HOLD


def test_a_choked_prefill_is_never_a_reason_to_shrink() -> None:
    cooling = PolicyMemory(wanted={P: 2, D: 4}, last_out_at=NOW - 100, low_since=NOW - 900)
    members = (*many(2, P, CHOKED), *many(4, D, decoding(500)))
    found = decide(view_of(spec_of(slo={}), *members, memory=cooling))
    assert (found.action, found.bound_by) == (Action.HOLD, "cooldown")
    assert found.memory.low_since is None


def test_aggregated_services_scale_too() -> None:
    view = view_of(aggregated_spec(), *many(4, A, decoding(1500)))
    found = decide(view)
    assert (found.action, found.delta) == (Action.SCALE_OUT, {A: 2})


def test_prefill_below_the_ratio_is_launched_once_nothing_is_missing() -> None:
    members = (*many(1, P, prefilling(2000)), *many(4, D, decoding(950)))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_OUT, {P: 1}, "ratio")


def test_a_surplus_of_decode_is_no_lack_of_prefill() -> None:
    members = (*many(2, P, prefilling(2000)), *many(7, D, decoding(950)))
    view = view_of(spec_of(), *members, memory=PolicyMemory(wanted={P: 2, D: 4}))
    assert decide(view).action is Action.HOLD


def test_equal_views_give_equal_verdicts() -> None:
    view: ServiceView = view_of(spec_of(), *CALM, *many(4, D, decoding(1200)))
    assert decide(view) == decide(view)
