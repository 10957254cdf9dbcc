"""Token velocity: what arrives against what each stage moves, beside other laws and alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, decide
from heteroscale_coordinator.core.policy.scene import look
from heteroscale_coordinator.core.policy.velocity import velocity_floor, velocity_need
from heteroscale_coordinator.core.spec import ServiceSpec, SloSpec
from heteroscale_coordinator.core.sums import replay
from tests.core.policy.build import (
    IDLE,
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
)

BAND = {"min": 0.25, "max": 2.0}
LOW = 15 - math.sqrt(15 / 15)
"""15 requests/s over 15 s, one standard deviation low."""


def spec(mode: str = "feedForward", ratio: Any = None, **velocity: Any) -> ServiceSpec:
    """A service whose throughput law finds nothing to do at 90 % of its targets."""
    return spec_of(ratio=ratio or BAND, velocity={"mode": mode, **velocity})


def members(prefill: float = 5000.0, decode: float = 750.0) -> tuple[Member, ...]:
    """Three prefill and four decode: 15 requests/s of 1,000 and 200 tokens, unless said."""
    return (*many(3, P, prefilling(prefill)), *many(4, D, decoding(decode)))


def verdict(chosen: ServiceSpec, *some: Member, **memory: Any) -> Verdict:
    view = view_of(chosen, *(some or members()))
    return decide(replace(view, memory=PolicyMemory(wanted=view.present(), **memory)))


# ---- needs -------------------------------------------------------------------------------------


def test_what_moves_all_that_arrives_asks_for_nothing() -> None:
    found = verdict(spec())
    assert (found.action, found.bound_by) == (Action.HOLD, "demand")
    assert found.sums["velocity_arrivals"].value == pytest.approx(LOW)


def test_prefill_is_sized_by_arriving_prompt_tokens_over_its_velocity() -> None:
    found = verdict(spec(prefill=3000))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "velocity")
    assert found.delta == {P: 2}  # 14,000 tok/s over 3,000 each
    stored = found.sums["velocity_prefill_needed"]
    assert replay(stored) == stored.value == 5
    assert stored.terms["asked"] == pytest.approx(1000 * LOW)
    assert "prompt tokens arrive at 156 % of what prefill moves" in found.reason


def test_a_fixed_ratio_takes_decode_along() -> None:
    found = verdict(spec(prefill=3000, ratio=0.75))
    assert found.delta == {P: 2, D: 2}


@pytest.mark.parametrize("network", [3000, {"bytesPerSecond": 3e8, "bytesPerToken": 1e5}])
def test_the_network_caps_what_a_prefill_moves(network: Any) -> None:
    assert verdict(spec(network=network)).delta == {P: 2}
    assert verdict(spec(network=3000, prefill=1e6)).delta == {P: 2}


def test_cached_prompt_tokens_cross_the_network_too() -> None:
    half_cached = (*many(3, P, prefilling(5000, prompt=1000)), *many(4, D, decoding(750)))
    cached = tuple(
        many(3, P, replace(prefilling(2500, prompt=500), prompt=5000.0)) + many(4, D, decoding(750))
    )
    assert verdict(spec(network=4500), *half_cached).action is Action.HOLD
    found = verdict(spec(network=4500), *cached)
    # 7,000 of missed tokens, and each prefill sends 4,500 prompt tokens, half of them missed.
    assert found.sums["velocity_network"].value == pytest.approx(2250)
    assert found.action is Action.HOLD
    assert verdict(spec(network=3000), *cached).delta == {P: 2}


@pytest.mark.parametrize(("velocity", "more"), [(1.1e6, 0), (0.8e6, 0), (0.65e6, 1), (0.35e6, 4)])
def test_decode_is_sized_by_the_tokens_of_context_it_reads(velocity: float, more: int) -> None:
    """2,800 tok/s of requests with 1,100 tokens of context on average: V_D ÷ 1,100 each."""
    found = verdict(spec(decode=velocity))
    assert found.delta.get(D, 0) == more
    if more:
        assert found.sums["velocity_context"].value == pytest.approx(1100)


def test_longer_contexts_need_more_decode_for_the_same_tokens() -> None:
    long = replace(decoding(750), prompt=3.75 * 3000)
    some = (*many(3, P, prefilling(5000)), *many(4, D, long))
    assert verdict(spec(decode=1.1e6)).action is Action.HOLD
    assert verdict(spec(decode=1.1e6), *some).delta[D] == 4  # doubled: one step's limit


def test_what_runs_is_due_a_token_each_tbt_of_the_slo() -> None:
    """60 run on each decode at 50 ms: 1,200 tok/s are due of each, served are 750."""
    slow = (*many(3, P, prefilling(5000)), *many(4, D, decoding(750, running=60.0)))
    found = verdict(spec(), *slow)
    assert (found.bound_by, found.delta) == ("velocity", {D: 1})
    assert found.sums["velocity_decode_due"].value == pytest.approx(4800)


def test_what_is_starting_counts() -> None:
    some = (*members(), starting(P), starting(P))
    assert verdict(spec(prefill=3000), *some).action is Action.HOLD


def test_a_gpu_type_has_its_own_velocity() -> None:
    types = {"H20": 3000, "L20": 9000}
    assert verdict(spec(prefill=types)).delta == {P: 2}
    mixed = (*many(2, P, prefilling(5000)), *many(1, P, prefilling(5000), gpu_type="L20"))
    found = verdict(spec(prefill=types), *mixed, *many(4, D, decoding(750)))
    assert found.action is Action.HOLD  # 15,000 are moved


def test_bounds_win() -> None:
    tight = spec_of(prefill=(1, 4), ratio=BAND, velocity={"prefill": 1000})
    found = verdict(tight)
    assert found.delta == {P: 1}
    assert found.bound_by == "bounds"


# ---- alone -------------------------------------------------------------------------------------


def test_alone_the_throughput_law_is_silent() -> None:
    """Decode serves 120 % of its target, and could read four times the context."""
    busy = (*many(3, P, prefilling(5000)), *many(4, D, decoding(1200, running=10.0)))
    quick = {"decode": 4.4e6, "prefill": 1e4}
    assert verdict(spec("feedForward", **quick), *busy).action is Action.SCALE_OUT
    assert verdict(spec("alone", **quick), *busy).action is Action.HOLD


def test_alone_and_unknown_the_throughput_law_speaks() -> None:
    """No request has ended yet: tokens of a request are unknown, and so is velocity."""
    fresh = (
        *many(3, P, prefilling(5000)),
        *many(4, D, decoding(1200, requests=0.0, running=24.0)),
    )
    found = verdict(spec("alone"), *fresh)
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "demand")


# ---- floors ------------------------------------------------------------------------------------


def floor(chosen: ServiceSpec, *some: Member) -> dict[Any, int] | None:
    found = velocity_floor(look(view_of(chosen, *some)))
    return None if found is None else dict(found.counts)


def test_what_nobody_tells_makes_no_floor_and_is_held() -> None:
    assert floor(spec(), member(P), member(D)) is None
    assert verdict(spec("alone"), member(P), member(D)).action is Action.HOLD


def test_contexts_of_unknown_length_leave_decode_to_the_other_laws() -> None:
    mute = (
        *many(3, P, replace(prefilling(5000), prompt=None)),
        *many(4, D, decoding(750, prompt=None)),
    )
    found = floor(spec(decode=4.4e6), *mute)
    assert found is None or D not in found
    told = floor(spec(decode=4.4e6), *members())
    assert told is not None
    assert D in told


def test_without_a_promise_for_tbt_only_what_arrives_counts() -> None:
    slow = (*many(3, P, prefilling(5000)), *many(4, D, decoding(750, running=200.0)))
    promised = verdict(spec(), *slow).sums
    assert promised["velocity_decode_asked"].terms["due"] > 0
    free = verdict(spec().model_copy(update={"slo": SloSpec(ttft=1.0)}), *slow).sums
    assert free["velocity_decode_asked"].terms["due"] == 0


def test_the_floor_leaves_what_arrives_below_the_threshold() -> None:
    """Over the long window 15 requests/s are 14.5 at least: 14,500 tok/s, 2,900 of output."""
    assert floor(spec(prefill=8000, decode=2.2e6), *members()) == {P: 3, D: 2}


def test_idle_asks_for_no_floor_above_one() -> None:
    idle = (*many(3, P, IDLE), *many(4, D, IDLE))
    assert floor(spec("feedForward"), *idle) is None
    assert floor(spec("alone"), *idle) == {P: 3, D: 4}


def test_scale_in_stops_at_the_floor() -> None:
    quiet = (*many(3, P, prefilling(2000)), *many(8, D, decoding(150, running=3.0)))
    memory = {"low_since": NOW - 3600}
    plain = spec_of(ratio=BAND, prefill_target=5000.0)
    assert verdict(plain, *quiet, **memory).delta[D] > 1
    found = verdict(spec(decode=0.17e6), *quiet, **memory)
    assert found.delta.get(D, 0) == 0
    assert "floor_velocity" in found.inputs


# ---- convertible decoders ----------------------------------------------------------------------


def burst(lasts: float) -> tuple[Member, ...]:
    """Prompts at 30 % above what three prefill move, for so many seconds."""
    calm, more = prefilling(4000), prefilling(6500, tokens=6.5)
    return (*many(3, P, calm, more, each=lasts), *many(4, D, decoding(750)))


def test_a_short_burst_that_decoders_bear_launches_no_prefill() -> None:
    ready = {"instances": 3, "tokens": 800}
    assert verdict(spec_of(ratio=BAND, velocity={}), *burst(15)).action is Action.SCALE_OUT
    need = velocity_need(look(view_of(spec(convertible=ready), *burst(15))))
    assert need is None


def test_a_burst_beyond_their_cap_or_one_that_lasts_is_launched_for() -> None:
    for tokens, lasts in ((100, 15.0), (800, 120.0)):
        chosen = spec(convertible={"instances": 3, "tokens": tokens})
        need = velocity_need(look(view_of(chosen, *burst(lasts))))
        assert need is not None
        assert need.counts[P] > 3


def test_what_decoders_bear_is_named() -> None:
    scene = look(view_of(spec(convertible={"instances": 3, "tokens": 800}), *burst(15)))
    velocity_need(scene)
    assert scene.sums["velocity_convertible"].value == 2400
    assert scene.inputs["convertible"].startswith("3 decode may take 2400 prompt tok/s")


# ---- claims ------------------------------------------------------------------------------------


@given(
    prefill=st.floats(100, 20_000),
    decode=st.floats(1e4, 1e7),
    load=st.floats(0.0, 2.0),
    counts=st.tuples(st.integers(1, 6), st.integers(1, 8)),
)
def test_a_need_is_never_below_what_is_present_and_never_falls_as_velocity_does(
    prefill: float, decode: float, load: float, counts: tuple[int, int]
) -> None:
    some = (
        *many(counts[0], P, prefilling(5000 * load)),
        *many(counts[1], D, decoding(1000 * load)),
    )

    def need(share: float) -> dict[Any, int]:
        chosen = spec(prefill=prefill * share, decode=decode * share)
        view = view_of(chosen, *some)
        found = velocity_need(look(view))
        return dict(found.counts) if found else view.present()

    fast, slow = need(1.0), need(0.5)
    assert fast[P] >= counts[0]
    assert fast[D] >= counts[1]
    assert slow[P] >= fast[P]
    assert slow[D] >= fast[D]


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("velocity", "said"),
    [
        ({"mode": "both"}, "mode"),
        ({"prefill": 0}, "prefill"),
        ({"prefill": {}}, "name at least one GPU type"),
        ({"network": {"bytesPerSecond": 10, "bytesPerToken": 1e5}}, "less than one"),
        ({"convertible": {"instances": 2}}, "tokens"),
    ],
)
def test_wrong_settings_are_refused(velocity: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec_of(velocity=velocity)


def test_a_service_of_one_role_has_no_velocity() -> None:
    with pytest.raises(ValidationError, match=r"policy\.velocity is for prefill and decode"):
        aggregated_spec(velocity={})
