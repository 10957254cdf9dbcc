"""A prefill split into attention and ffn: two ratios are held at once, whatever is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.model import Action, Counts, Verdict
from heteroscale_coordinator.core.policy import Member, ServiceView, bounds, decide, split
from heteroscale_coordinator.core.policy.view import Short
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import (
    IDLE,
    NOW,
    PLAIN,
    D,
    Flow,
    P,
    decoding,
    many,
    member,
    prefilling,
    starting,
    view_of,
    withdrawn,
)

A, F = Role.ATTENTION, Role.FFN
SILENT_OF_LOAD = Flow(
    tokens=None, requests=None, prompt=None, aborted=None, running=None, waiting=None, kv_usage=None,
    ttft=None, tbt=None,
)  # fmt: skip
"""What an ffn engine tells: that it is there."""
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


NIGHT = {"name": "night", "start": "0 22 * * *", "duration": "8h", "ceiling": {"decode": 4}}


def role(low: int, high: int, **changes: Any) -> dict[str, Any]:
    return {"template": "x", "min": low, "max": high, **changes}


def split_spec(
    *,
    attention: tuple[int, int] = (1, 16),
    ffn: tuple[int, int] = (1, 16),
    decode: tuple[int, int] = (1, 32),
    ratio: Any = 0.5,
    inner: Any = 2.0,
    max_gpus: int | None = None,
    **policy: Any,
) -> ServiceSpec:
    """Return a service of attention, ffn and decode; counts are (min, max)."""
    return ServiceSpec.model_validate(
        {
            "roles": {
                "attention": role(*attention, target=5000.0),
                "ffn": role(*ffn),
                "decode": role(*decode, target=1000.0),
            },
            "ratio": ratio,
            "inner_ratio": inner,
            "max_gpus": max_gpus,
            "slo": {"ttft": 1.0, "tbt": 0.05},
            "policy": {**PLAIN, **policy},
        }
    )


def fleet(
    attention: int, ffn: int, decode: int, *, load: float = 950, prefill: float = 3000
) -> tuple[Member, ...]:
    """Return members that serve; ``load`` tok/s each decode, ``prefill`` each attention."""
    return (
        *many(attention, A, prefilling(prefill)),
        *many(ffn, F, SILENT_OF_LOAD),
        *many(decode, D, decoding(load)),
    )


def outside(count: int, low: int, high: int, lead: int) -> float:
    return max(low - count, count - high, 0) / max(lead, 1)


def strays(counts: Counts, spec: ServiceSpec) -> tuple[float, float]:
    """Return how far attention is from decode's limits, and ffn from attention's, reckoned anew.

    The limits of a follower are found by trying, not by the formula: at least ``r_min × lead``, at most
    ``r_max × lead``, and where no whole number is between, the next above; at least one.
    """
    inner = spec.inner_ratio
    assert inner is not None
    found = []
    for count, lead, low, high in (
        (counts[A], counts[D], spec.ratio.min, spec.ratio.max),
        (counts[F], counts[A], 1 / inner.max, 1 / inner.min),
    ):
        least = next(n for n in range(1, 999) if n >= low * lead - 1e-6)
        most = max([least, *(n for n in range(1, 200) if n <= high * lead + 1e-6)])
        found.append(outside(count, least, most, lead))
    return found[0], found[1]


def closer(before: Counts, after: Counts, spec: ServiceSpec) -> bool:
    """Return whether each ratio is in its band after a step, or nearer to it."""
    pairs = zip(strays(before, spec), strays(after, spec), strict=True)
    return all(then == 0 or then < now for now, then in pairs)


# ---- the arithmetic of bounds ----------------------------------------------------------------


@st.composite
def specs(draw: st.DrawFn) -> ServiceSpec:
    found = {}
    # Beside 1 to 2 attention at least, 4 ffn at most are asked for: less is refused in a specification.
    for name, least, most in (("attention", 3, 8), ("ffn", 4, 8), ("decode", 3, 9)):
        high = draw(st.integers(least, most))
        found[name] = (draw(st.integers(1, 2)), high)
    outer = sorted(draw(st.sampled_from([0.25, 1 / 3, 0.5, 1.0, 2.0])) for _ in range(2))
    inner = sorted(draw(st.sampled_from([0.5, 2 / 3, 1.0, 1.5, 2.0])) for _ in range(2))
    floor = sum(one[0] for one in found.values())
    budget = draw(st.one_of(st.none(), st.integers(floor, floor + 14)))
    return split_spec(
        **found,
        ratio={"min": outer[0], "max": outer[1]},
        inner={"min": inner[0], "max": inner[1]},
        max_gpus=budget,
        max_step_out=draw(st.sampled_from([0.3, 1.0])),
    )


few = st.integers(0, 9)
counts = st.fixed_dictionaries({P: few, F: few, D: few})


@quick
@given(spec=specs(), present=counts, wish=counts, held=st.integers(0, 4))
def test_growth_holds_both_ratios_and_every_bound(
    spec: ServiceSpec, present: Any, wish: Any, held: int
) -> None:
    plain = split.plain_spec(spec)
    after = bounds.fit_out(present, wish, plain, held)
    assert all(after[one] >= present[one] for one in present)
    if after == present:
        return
    assert closer(split.named(present), split.named(after), spec)
    assert all(after[one] <= plain.roles[one].max for one in after if after[one] > present[one])
    assert spec.max_gpus is None or sum(after.values()) + held <= spec.max_gpus


@quick
@given(spec=specs(), present=counts, wish=counts)
def test_shrinking_holds_both_ratios_and_every_minimum(
    spec: ServiceSpec, present: Any, wish: Any
) -> None:
    plain = split.plain_spec(spec)
    after = bounds.fit_in(present, wish, plain)
    assert all(after[one] <= present[one] for one in present)
    assert all(after[r] >= min(rules.min, present[r]) for r, rules in plain.roles.items())
    if after != present:
        assert closer(split.named(present), split.named(after), spec)


@quick
@given(spec=specs(), wanted=counts)
def test_wanted_counts_are_inside_every_bound(spec: ServiceSpec, wanted: Any) -> None:
    plain = split.plain_spec(spec)
    for found in (bounds.clamp(wanted, plain), bounds.starting_counts(plain)):
        assert bounds.within(found, plain)
        assert all(found[one] >= rules.min for one, rules in plain.roles.items())


def test_a_new_service_starts_in_both_ratios() -> None:
    for changes in ({"attention": (4, 9)}, {"decode": (8, 20)}, {"ffn": (2, 9)}):
        spec = split_spec(**changes)  # type: ignore[arg-type]
        found = split.named(bounds.starting_counts(split.plain_spec(spec)))
        assert strays(found, spec) == (0, 0)
        assert found[A] in (3, 4)


# ---- decisions -------------------------------------------------------------------------------


@st.composite
def views(draw: st.DrawFn) -> ServiceView:
    flow = st.sampled_from([IDLE, decoding(400), decoding(950), decoding(1500), None])
    crowd = []
    for one in draw(st.lists(st.sampled_from([A, A, F, F, D, D, D]), max_size=12)):
        state = draw(st.sampled_from([InstanceState.IN_SERVICE] * 6 + [InstanceState.LAUNCHING]))
        reason = None
        if draw(st.integers(0, 8)) == 0:
            state, reason = InstanceState.WITHDRAWN, draw(st.sampled_from(list(WithdrawReason)))
        load = SILENT_OF_LOAD if one is F else draw(flow)
        phases = (load,) if load else ()
        crowd.append(member(one, *phases, state=state, reason=reason))
    known = st.fixed_dictionaries({A: few, F: few, D: few})
    memory = PolicyMemory(
        wanted=draw(st.one_of(st.just({}), known)),
        low_since=draw(st.sampled_from([None, NOW - 3600])),
    )
    return ServiceView("chat", draw(specs()), tuple(crowd), memory, NOW)


def after_step(view: ServiceView, found: Verdict) -> dict[Role, int]:
    sign = -1 if found.action is Action.SCALE_IN else 1
    return {r: n + sign * found.delta.get(r, 0) for r, n in view.present().items()}


@quick
@given(view=views())
def test_no_step_leaves_either_ratio_or_strays_further(view: ServiceView) -> None:
    found = decide(view)
    if found.action is Action.SCALE_IN and found.bound_by in ("bounds", "wanted"):
        return  # bounds always win, and what nobody wants goes back to what was wanted in ratio
    if found.action in (Action.SCALE_OUT, Action.SCALE_IN):
        assert closer(view.present(), after_step(view, found), view.spec)


@quick
@given(view=views())
def test_what_is_told_and_remembered_bears_the_names_of_the_service(view: ServiceView) -> None:
    found = decide(view)
    for told in (found.delta, found.before, found.hold, found.memory.wanted, found.done.wanted):
        assert set(told) <= {A, F, D}
    if found.memory.wanted:
        assert bounds.within(found.memory.wanted, view.spec)


def test_one_step_grows_all_three() -> None:
    found = decide(view_of(split_spec(), *fleet(2, 1, 4, load=1500)))
    assert (found.action, found.delta) == (Action.SCALE_OUT, {A: 1, F: 1, D: 2})
    assert "1 attention, 2 decode, 1 ffn" in found.reason
    assert found.inputs["ffn"] == "1 beside 2 attention: the inner ratio asks for 1 and allows 1"


def test_where_ffn_has_no_room_attention_and_decode_stay_too() -> None:
    found = decide(view_of(split_spec(ffn=(1, 1)), *fleet(2, 1, 4, load=1500)))
    assert (found.action, found.bound_by) == (Action.HOLD, "bounds")


def test_a_budget_is_shared_by_all_three() -> None:
    whole = decide(view_of(split_spec(), *fleet(2, 1, 4, load=2500)))
    some = decide(view_of(split_spec(max_gpus=11), *fleet(2, 1, 4, load=2500)))
    assert whole.delta == {A: 2, F: 1, D: 4}
    assert some.delta == {A: 1, F: 1, D: 2}


def test_low_demand_withdraws_all_three_softly() -> None:
    found = decide(view_of(split_spec(dampening_in=1.0), *fleet(4, 2, 8, load=400, prefill=1000)))
    assert (found.action, found.delta) == (Action.SCALE_IN, {A: 2, F: 1, D: 4})


def test_a_lost_ffn_is_launched_again_and_nothing_else_moves() -> None:
    members = fleet(4, 1, 8)
    memory = PolicyMemory(wanted={A: 4, F: 2, D: 8})
    found = decide(view_of(split_spec(), *members, memory=memory))
    assert (found.action, found.delta) == (Action.REPAIR, {F: 1})


def test_what_was_withdrawn_comes_back_in_both_ratios() -> None:
    gone = (withdrawn(A), withdrawn(F), withdrawn(D), withdrawn(D))
    soft = SoftScaleIn("dec-1", NOW - 60, NOW + 240, 3800.0, 3800.0)
    memory = PolicyMemory(wanted={A: 2, F: 1, D: 4}, soft=soft)
    found = decide(view_of(split_spec(), *fleet(2, 1, 4, load=1500), *gone, memory=memory))
    assert found.action is Action.REINSTATE
    assert found.delta == {A: 1, F: 1, D: 2}


def test_a_new_inner_ratio_is_approached_by_ffn_alone() -> None:
    more = decide(view_of(split_spec(inner=1.0), *fleet(4, 2, 8)))
    assert (more.action, more.delta, more.bound_by) == (Action.SCALE_OUT, {F: 2}, "ratio")
    assert "ffn is 2, the inner ratio asks for 4" in more.reason.lower()
    less = decide(view_of(split_spec(inner=4.0), *fleet(4, 2, 8)))
    assert (less.action, less.delta, less.bound_by) == (Action.SCALE_IN, {F: 1}, "ratio")


def test_inside_a_band_ffn_stays_as_it_is() -> None:
    band = {"min": 1.0, "max": 2.0}
    assert decide(view_of(split_spec(inner=band), *fleet(4, 3, 8))).action is Action.HOLD


def test_attention_of_a_step_waits_for_its_ffn_even_when_it_is_short() -> None:
    band = {"min": 0.5, "max": 1.0}
    found = decide(view_of(split_spec(ratio=band), *fleet(2, 1, 4, prefill=6500)))
    assert (found.delta, found.hold) == ({A: 1, F: 1}, {A: 1})
    ready = member(A, IDLE, state=InstanceState.WITHDRAWN, reason=WithdrawReason.RATIO_HOLD,
                   changed_at=NOW - 5, created_at=NOW - 50)  # fmt: skip
    calm = fleet(2, 1, 4)
    memory = PolicyMemory(wanted={A: 3, F: 2, D: 4})
    waits = decide(
        view_of(split_spec(), *calm, ready, starting(F, changed_at=NOW - 50), memory=memory)
    )
    assert waits.action is not Action.RELEASE
    served = decide(view_of(split_spec(), *fleet(2, 2, 4), ready, memory=memory))
    assert (served.action, served.delta) == (Action.RELEASE, {A: 1})


def test_in_a_shortage_ffn_is_given_with_its_attention() -> None:
    short = Short("api", 6, {A: 4, F: 2, D: 8})
    view = view_of(split_spec(shortage={"hourly": 1.0}), *fleet(4, 2, 8))
    found = decide(replace(view, short=short))
    assert (found.action, found.bound_by) == (Action.SCALE_IN, "shortage")
    assert closer(view.present(), after_step(view, found), view.spec)
    assert found.delta[F] == 1


# ---- what may be written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inner_ratio": None}, "innerRatio is missing: how many attention for each ffn, e.g. 2:1"),
        (
            {"inner_ratio": {"min": 1, "max": 2, "adapt": True}},
            "innerRatio.adapt: ffn has no demand",
        ),
        ({"policy": {"ratio_guard": {"switch_roles": True}}}, "policy.ratioGuard.switchRoles"),
        ({"roles": {"attention": role(1, 8, target="learn")}}, "roles.attention.target: `learn`"),
        (
            {"roles": {"attention": role(8, 8)}},
            "roles.ffn.max 3 is below the 4 that innerRatio asks",
        ),
        ({"roles": {"ffn": role(5, 6)}}, "roles.ffn.min 5 is above the 4 that innerRatio allows"),
        (
            {"policy": {"schedule": {"timeZone": "UTC", "windows": [NIGHT]}}},
            "policy.schedule is not for a prefill that is split yet",
        ),
    ],
)
def test_what_is_refused_names_the_field_and_the_mend(changes: dict[str, Any], said: str) -> None:
    roles = {"attention": role(1, 8), "ffn": role(1, 3), "decode": role(1, 9)}
    written = {"inner_ratio": 2.0, **changes, "roles": roles | changes.get("roles", {})}
    with pytest.raises(ValidationError) as caught:
        ServiceSpec.model_validate(written)
    assert said in str(caught.value)


def test_an_inner_ratio_without_a_split_prefill_is_refused() -> None:
    roles = {"prefill": role(1, 8), "decode": role(1, 9)}
    with pytest.raises(ValidationError, match="innerRatio is attention:ffn; give roles"):
        ServiceSpec.model_validate({"roles": roles, "inner_ratio": 2.0})
