"""The ready-ratio guard: who waits once Ready, and what ends the wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import InstanceState, WithdrawReason
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import Member, ServiceView, decide
from tests.core.policy.build import (
    IDLE,
    NOW,
    D,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    starting,
    view_of,
)
from tests.core.policy.test_claims import views

SPARE, FULL = prefilling(3000), decoding(1250)
NO_COOLDOWN = {"cooldown_out": 1}


def held(role: Any, **changes: Any) -> Member:
    """Return one that is Ready and waits since 5 s; launched 50 s ago."""
    settings = {"changed_at": NOW - 5, "created_at": NOW - 50, **changes}
    reason = WithdrawReason.RATIO_HOLD
    return member(role, IDLE, state=InstanceState.WITHDRAWN, reason=reason, **settings)


def late(role: Any, **changes: Any) -> Member:
    """Return one of the same step that is still starting."""
    return starting(role, **{"changed_at": NOW - 50, **changes})


def step(*, guard: dict[str, Any] | None = None, prefill: Any = SPARE, **changes: Any) -> Verdict:
    """Decide where decode is short, so that both roles of 2 and 4 grow by 1 and 1."""
    spec = spec_of(**changes, ratio_guard=guard or {})
    return decide(view_of(spec, *many(2, P, prefill), *many(4, D, FULL)))


def waiting(*more: Member, decode: Any = None, **changes: Any) -> Verdict:
    """Decide where one prefill waits beside 2 and 4 that carry their load easily."""
    calm = decode or decoding(950)
    members = (*many(2, P, SPARE), *many(4, D, calm), held(P), *more)
    return decide(view_of(spec_of(**changes), *members))


# ---- who is launched to wait -----------------------------------------------------------------


def test_the_role_that_is_not_short_waits_for_the_other() -> None:
    found = step()
    assert (found.action, found.delta) == (Action.SCALE_OUT, {P: 1, D: 1})
    assert (found.hold, found.hold_for) == ({P: 1}, 60)
    assert found.inputs["ratio_hold"] == (
        "1 prefill wait once Ready, at most 60 s, until decode of this step serves"
    )


def test_a_role_that_is_short_itself_does_not_wait() -> None:
    assert step(prefill=prefilling(5200)).hold == {}


def test_a_choked_prefill_does_not_wait() -> None:
    """Its queue shows that it is the problem, whatever its target makes of what it serves."""
    starved = many(4, D, decoding(1000), decoding(500), each=15)
    found = decide(view_of(spec_of(), *many(2, P, prefilling(3000, waiting=9.0)), *starved))
    assert (found.delta, found.hold) == ({P: 1, D: 1}, {})


def test_within_tolerance_nobody_waits() -> None:
    assert step(guard={"tolerance": 0.6}).hold == {}


def test_only_those_beyond_the_tolerance_wait() -> None:
    """Beside 10 decode, 6 prefill are within 20 % of 1:2; the seventh and eighth are not."""
    busy = (*many(5, P, SPARE), *many(10, D, decoding(1600)))
    found = decide(view_of(spec_of(), *busy))
    assert (found.delta, found.hold) == ({P: 3, D: 6}, {P: 2})


def test_off_means_off() -> None:
    assert step(guard={"hold": False}).hold == {}


def test_a_step_of_one_role_waits_for_nobody() -> None:
    members = (*many(3, P, SPARE), *many(4, D, FULL))
    found = decide(view_of(spec_of(), *members))
    assert (found.delta, found.hold) == ({D: 1}, {})


def test_a_new_service_does_not_wait() -> None:
    found = decide(ServiceView("chat", spec_of(decode=(4, 8)), (), PolicyMemory(), NOW))
    assert (found.delta, found.hold) == ({P: 2, D: 4}, {})


def test_below_its_minimum_no_role_waits() -> None:
    members = (*many(2, P, SPARE), *many(4, D, FULL))
    spec = spec_of(prefill=(3, 8), decode=(6, 16))
    found = decide(view_of(spec, *members, memory=PolicyMemory(wanted={P: 3, D: 6})))
    assert (found.action, found.hold) == (Action.REPAIR, {})


# ---- what ends the wait -------------------------------------------------------------------------


def test_it_waits_while_the_other_role_starts() -> None:
    found = waiting(late(D))
    assert found.action is Action.HOLD
    assert found.inputs["ratio_hold"] == (
        "1 prefill wait, Ready: Ready 2 prefill, 4 decode; 1 decode of its step start"
    )


def test_it_goes_in_when_the_other_has_caught_up() -> None:
    found = waiting(late(D), member(D, decoding(950)), late(D))
    assert (found.action, found.delta, found.bound_by) == (Action.RELEASE, {P: 1}, "ratio_hold")
    assert "Ready 2 prefill, 5 decode keep within 0.2" in found.reason


def test_as_many_go_in_as_keep_the_ratio() -> None:
    found = waiting(*(held(P), held(P), held(P)), *many(2, D, decoding(950)), late(D))
    assert (found.action, found.delta) == (Action.RELEASE, {P: 1})


def test_a_failed_partner_is_waited_for_no_longer() -> None:
    """What replaces it was launched later: the wait would be a whole start-up longer."""
    replacement = starting(D, changed_at=NOW - 2)
    found = waiting(member(D, state=InstanceState.FAILED), replacement)
    assert (found.action, found.delta) == (Action.RELEASE, {P: 1})
    assert "no decode of its step is still starting" in found.reason


def test_a_rise_of_its_own_demand_ends_the_wait() -> None:
    members = (*many(2, P, prefilling(5200)), *many(4, D, decoding(950)), held(P), late(D))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.delta) == (Action.RELEASE, {P: 1})
    assert "prefill is short" in found.reason


def test_unknown_demand_ends_the_wait() -> None:
    """Unknown is not spare."""
    members = (*many(2, P), *many(4, D, decoding(950)), held(P), late(D))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.delta) == (Action.RELEASE, {P: 1})
    assert "unknown" in found.reason


@pytest.mark.parametrize(
    ("guard", "why"), [({"deadline": "4s"}, "deadline"), ({"hold": False}, "off")]
)
def test_deadline_and_switch_end_the_wait(guard: dict[str, Any], why: str) -> None:
    found = waiting(late(D), ratio_guard=guard)
    assert (found.action, found.delta) == (Action.RELEASE, {P: 1})
    assert why in found.reason


def test_decode_waits_for_prefill_too() -> None:
    members = (*many(2, P, SPARE), *many(5, D, decoding(700)), late(P))
    assert decide(view_of(spec_of(), *members, held(D))).action is Action.HOLD
    more = (*members, member(P, SPARE))
    assert decide(view_of(spec_of(), *more, held(D))).action is Action.RELEASE


# ---- claims ------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(view=views())
def test_the_guard_never_withdraws_what_serves(view: ServiceView) -> None:
    """Whatever else is decided, it is as without the guard, but for who waits and who is let in."""
    found = decide(view)
    assert all(0 < n <= found.delta[role] for role, n in found.hold.items())
    if found.hold:
        assert found.action in (Action.SCALE_OUT, Action.REPAIR)
        serving = view.in_service()
        assert all(serving[role] >= 1 for role in found.hold)
    if found.action is Action.RELEASE:
        waits = [m.instance.role for m in view.members if m.held]
        assert all(0 < n <= waits.count(role) for role, n in found.delta.items())
        return
    off = view.spec.policy.model_copy(
        update={"ratio_guard": view.spec.policy.ratio_guard.model_copy(update={"hold": False})}
    )
    other = decide(replace(view, spec=view.spec.model_copy(update={"policy": off})))
    if other.action is not Action.RELEASE:
        assert (found.action, found.delta) == (other.action, other.delta)


@settings(max_examples=60, deadline=None)
@given(
    prefill=st.integers(1, 6),
    decode=st.integers(1, 12),
    held_back=st.integers(1, 5),
    tolerance=st.floats(0, 0.9),
)
def test_a_release_leaves_the_ready_ratio_within_tolerance(
    prefill: int, decode: int, held_back: int, tolerance: float
) -> None:
    members = (
        *many(prefill, P, prefilling(1000)), *many(decode, D, decoding(950)), late(D),
        *(held(P) for _ in range(held_back)),
    )  # fmt: skip
    spec = spec_of(ratio_guard={"tolerance": tolerance}, prefill=(1, 32))
    found = decide(view_of(spec, *members))
    if found.action is Action.RELEASE and "keep within" in found.reason:
        after = prefill + found.delta[P]
        assert after <= max(0.5 * (1 + tolerance) * decode + 1e-6, -(-decode // 2))
