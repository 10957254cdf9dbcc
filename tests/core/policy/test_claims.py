"""Safety claims over random services, fleets and memories; each test is one claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core.memory import Breach, PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import LIVE_STATES, Action, Verdict, counts_as_supply
from heteroscale_coordinator.core.policy import Member, ServiceView, bounds, decide, ratio
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import NOW, D, Flow, P, decoding, instance_of, spec_of, track_of

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
STATES = [
    *[InstanceState.IN_SERVICE] * 6,
    InstanceState.LAUNCHING,
    InstanceState.UNKNOWN,
    InstanceState.DRAINING,
    InstanceState.LOST,
]
maybe_time = st.one_of(st.none(), st.floats(NOW - 2000, NOW))
counts = st.fixed_dictionaries({P: st.integers(0, 6), D: st.integers(0, 8)})


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    tokens = draw(st.sampled_from([0.0, 1.0, 400.0, 900.0, 1500.0]))
    flow = decoding(tokens)
    return replace(
        flow,
        waiting=draw(st.sampled_from([0.0, 0.0, 3.0, None])),
        tokens=draw(st.sampled_from([tokens, tokens, tokens, None])),
        ttft=draw(st.sampled_from([0.1, 0.1, 2.0, None])),
        tbt=draw(st.sampled_from([0.02, 0.02, 0.2, None])),
        kv_usage=draw(st.sampled_from([0.1, 0.1, 0.95, None])),
        computed=draw(st.sampled_from([None, 2000.0, 9000.0])),
    )


@st.composite
def members(draw: st.DrawFn) -> Member:
    role = draw(st.sampled_from([P, D, D]))
    state = draw(st.sampled_from(STATES))
    reason = None
    if draw(st.integers(0, 7)) == 0:
        state, reason = InstanceState.WITHDRAWN, draw(st.sampled_from(list(WithdrawReason)))
    origin = draw(st.sampled_from(["", "", "found", "config"]))
    instance = instance_of(role, state, reason=reason, origin=origin)
    recallable = state is InstanceState.DRAINING and draw(st.booleans())
    if draw(st.integers(0, 5)) == 0:
        return Member(instance, None, recallable)
    silent = draw(st.sampled_from([0.0, 0.0, 0.0, 10.0, 100.0]))
    track = track_of(draw(flows()), heard_for=90, silent_for=silent, interval=10)
    return Member(instance, track, recallable)


@st.composite
def specs(draw: st.DrawFn) -> ServiceSpec:
    low, high = sorted(draw(st.sampled_from([0.25, 0.5, 1.0])) for _ in range(2))
    spec = spec_of(
        prefill=(1, draw(st.integers(1, 5))),
        decode=(1, draw(st.integers(1, 8))),
        ratio={"min": low, "max": high},
        max_step_out=draw(st.sampled_from([0.3, 1.0])),
    )
    return spec.model_copy(update={"max_gpus": draw(st.one_of(st.none(), st.integers(2, 12)))})


@st.composite
def memories(draw: st.DrawFn) -> PolicyMemory:
    at = draw(st.floats(NOW - 500, NOW))
    soft = SoftScaleIn("dec-1", at, at + 300, draw(st.floats(0, 5000)), 0.0)
    return PolicyMemory(
        wanted=draw(st.one_of(st.just({}), counts)),
        last_out_at=draw(maybe_time),
        last_in_at=draw(maybe_time),
        soft=draw(st.sampled_from([None, None, soft])),
        breach=draw(st.sampled_from([None, Breach(NOW - 400, {P: 1, D: 2})])),
        low_since=draw(maybe_time),
        launch_after=draw(st.sampled_from([0.0, 0.0, NOW + 30])),
    )


@st.composite
def views(draw: st.DrawFn) -> ServiceView:
    return ServiceView(
        "chat",
        draw(specs()),
        tuple(draw(st.lists(members(), max_size=9))),
        draw(memories()),
        NOW,
        partition=draw(st.integers(0, 9)) == 0,
        covered=draw(st.integers(0, 9)) > 0,
        launch_only=draw(st.booleans()),
    )


def after(view: ServiceView, found: Verdict) -> dict[Any, int]:
    still = dict.fromkeys((Action.HOLD, Action.FINISH_SCALE_IN, Action.RELEASE), 0)
    sign = {Action.SCALE_IN: -1, **still}.get(found.action, 1)
    return {role: n + sign * found.delta.get(role, 0) for role, n in view.present().items()}


@quick
@given(view=views())
def test_every_decision_has_a_reason_and_what_binds_it(view: ServiceView) -> None:
    found = decide(view)
    assert found.reason
    assert found.reason[0].isupper() or found.reason[0].isdigit()
    assert found.reason.endswith(".")
    assert found.bound_by
    assert all(n > 0 for n in found.delta.values())
    assert bool(found.delta) == (found.action is not Action.HOLD)


@quick
@given(view=views())
def test_bounds_always_win(view: ServiceView) -> None:
    found = decide(view)
    spec, end = view.spec, after(view, found)
    for role, n in found.delta.items():
        if found.action in (Action.SCALE_OUT, Action.REPAIR):
            assert end[role] <= spec.roles[role].max
        if found.action is Action.REINSTATE:
            # Where nothing serves, what is still starting takes no place of what is taken back.
            some = view.present() if view.serving()[role] else view.in_service()
            assert some[role] + n <= spec.roles[role].max
        if found.action is Action.SCALE_IN:
            assert end[role] >= spec.roles[role].min
        assert n <= spec.roles[role].max + view.present()[role] + view.returnable()[role]
    if spec.max_gpus is not None and found.action in (Action.SCALE_OUT, Action.REPAIR):
        held = [
            m
            for m in view.members
            if m.instance.state in LIVE_STATES and not counts_as_supply(m.instance)
        ]
        assert bounds.gpus(end, spec) + len(held) <= spec.max_gpus


@quick
@given(view=views())
def test_wanted_counts_stay_inside_the_bounds(view: ServiceView) -> None:
    found = decide(view)
    if not view.covered and not view.launch_only:
        return
    for memory in (found.memory, found.done):
        assert bounds.within(memory.wanted, view.spec)
        assert all(n >= view.spec.roles[r].min for r, n in memory.wanted.items())


@quick
@given(view=views())
def test_the_ratio_stays_in_its_band_or_comes_closer(view: ServiceView) -> None:
    found = decide(view)
    if found.action is not Action.SCALE_OUT and found.bound_by not in ("demand", "ratio"):
        return
    if found.action in (Action.SCALE_OUT, Action.SCALE_IN):
        start, end = view.present(), after(view, found)
        assert ratio.permitted((start[P], start[D]), (end[P], end[D]), view.spec.ratio)


@quick
@given(view=views())
def test_unknown_never_scales_in(view: ServiceView) -> None:
    """Nothing is withdrawn (but what is above a bound) unless nearly all of it is heard."""
    found = decide(view)
    if found.action is not Action.SCALE_IN or found.bound_by == "bounds":
        return
    for role in (P, D):
        carrying = [m for m in view.members if m.carrying and m.instance.role is role]
        heard = [m for m in carrying if m.track is not None and m.track.fresh(NOW, 15)]
        assert len(heard) >= 0.8 * len(carrying)
    told = [m.track.newest for m in view.members if m.carrying and m.track is not None]
    waiting = [point.waiting for point in told if point and point.at >= NOW - 15]
    assert any(value is not None for value in waiting)
    assert sum(value or 0.0 for value in waiting) <= 0.5 * len(waiting)


@quick
@given(view=views())
def test_forgetting_the_engines_never_scales_in_or_finishes(view: ServiceView) -> None:
    deaf = replace(view, members=tuple(Member(m.instance, None) for m in view.members))
    found = decide(deaf)
    adding = (Action.HOLD, Action.REPAIR, Action.REINSTATE, Action.RELEASE)
    assert found.action in adding or (
        found.bound_by == "bounds" and found.action is Action.SCALE_IN
    )


@quick
@given(view=views())
def test_nothing_is_withdrawn_or_replaced_in_a_partition_or_before_coverage(
    view: ServiceView,
) -> None:
    dark = decide(replace(view, covered=False, launch_only=False))
    assert dark.action is Action.HOLD
    split = decide(replace(view, covered=True, partition=True))
    assert split.action in (Action.HOLD, Action.SCALE_OUT, Action.REINSTATE, Action.RELEASE)
    late = decide(replace(view, covered=False, launch_only=True, partition=False))
    assert late.action not in (Action.SCALE_IN, Action.FINISH_SCALE_IN)


@quick
@given(view=views())
def test_while_one_scale_in_is_watched_no_other_begins(view: ServiceView) -> None:
    if view.memory.soft is not None and any(view.withdrawn().values()):
        assert decide(view).action is not Action.SCALE_IN


@quick
@given(view=views())
def test_cooldown_and_backoff_hold(view: ServiceView) -> None:
    memory = replace(view.memory, launch_after=NOW + 30)
    held = decide(replace(view, memory=memory))
    assert held.action not in (Action.SCALE_OUT, Action.REPAIR)
    recent = decide(replace(view, memory=replace(view.memory, last_out_at=NOW - 10)))
    if recent.action is Action.SCALE_IN:
        assert recent.bound_by in ("bounds", "wanted")
    assert recent.action is not Action.SCALE_OUT


@quick
@given(view=views())
def test_nobody_is_asked_to_come_back_who_is_not_there(view: ServiceView) -> None:
    found = decide(view)
    if found.action in (Action.REINSTATE, Action.FINISH_SCALE_IN):
        there = view.returnable() if found.action is Action.REINSTATE else view.withdrawn()
        assert all(n <= there[role] for role, n in found.delta.items())


@quick
@given(view=views())
def test_as_many_go_on_serving_as_are_to_remain(view: ServiceView) -> None:
    """Whatever is still starting or silent: a withdrawal leaves what it names in service."""
    found = decide(view)
    if found.action is Action.SCALE_IN:
        for role, n in found.delta.items():
            assert view.movable()[role] >= n
            assert view.serving()[role] - n >= view.spec.roles[role].min
            if found.bound_by == "wanted":
                assert view.serving()[role] - n >= found.done.wanted[role]


@quick
@given(view=views())
def test_a_role_that_serves_nothing_takes_back_what_it_has(view: ServiceView) -> None:
    found = decide(replace(view, covered=True))
    for role, n in view.returnable().items():
        if n and not view.in_service()[role]:
            assert found.action is Action.REINSTATE
            assert found.delta[role] >= 1
