"""Scale-in: soft, by consent of all, one at a time; every refusal is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.memory import Breach, PolicyMemory
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import ServiceView, decide
from heteroscale_coordinator.core.sums import replay
from tests.core.policy.build import (
    IDLE,
    NOW,
    A,
    D,
    Flow,
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

LOW = decoding(300)
EASY = prefilling(2000)
GARBLED = Flow(
    tokens=None, requests=None, prompt=None, aborted=None, running=None, waiting=None,
    kv_usage=None, ttft=None, tbt=None,
)  # fmt: skip


def quiet(decode: Any = LOW, prefill: Any = EASY, **changes: Any) -> ServiceView:
    """Return two prefill and four decode instances at 30 % of supply."""
    members = (*many(2, P, prefill), *many(4, D, decode))
    return view_of(changes.pop("spec", spec_of()), *members, **changes)


def test_low_demand_withdraws_softly_dampened_by_half() -> None:
    found = decide(quiet())
    assert (found.action, found.delta) == (Action.SCALE_IN, {D: 1})
    assert found.done.wanted == {P: 2, D: 3}
    assert found.done.last_in_at == NOW
    soft = found.done.soft
    assert soft is not None
    assert (soft.at, soft.until) == (NOW, NOW + 300)
    assert soft.demand == pytest.approx(1200)
    assert found.done.low_since is None


def test_the_counts_of_a_scale_in_are_reckoned_and_can_be_replayed() -> None:
    sums = decide(quiet()).sums
    needed, least, after = (sums[f"{name}_in_decode"] for name in ("needed", "least", "after"))
    assert needed.terms["asked"] == pytest.approx(1200)
    assert needed.terms["each"] == 1000
    assert (needed.value, least.value, after.value) == (2, 2, 3)
    assert after.terms == {"present": 4, "needed": 2, "dampening": 0.5}
    assert all(replay(line) == line.value for line in (needed, least, after))


def test_idle_scales_in() -> None:
    members = (*many(4, P, IDLE), *many(8, D, IDLE))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.delta) == (Action.SCALE_IN, {P: 1, D: 3})


def test_idle_at_the_minimum_stays() -> None:
    members = (*many(1, P, IDLE), *many(2, D, IDLE))
    found = decide(view_of(spec_of(decode=(2, 8)), *members))
    assert (found.action, found.bound_by) == (Action.HOLD, "bounds")


def test_aggregated_services_scale_in_too() -> None:
    found = decide(view_of(aggregated_spec(), *many(6, A, decoding(200))))
    assert (found.action, found.delta) == (Action.SCALE_IN, {A: 2})


def test_prefill_alone_shrinks_inside_its_band() -> None:
    spec = spec_of(ratio={"min": 0.25, "max": 1.0})
    members = (*many(4, P, prefilling(500)), *many(4, D, decoding(850)))
    found = decide(view_of(spec, *members))
    assert (found.action, found.delta) == (Action.SCALE_IN, {P: 1})


def test_prefills_own_demand_keeps_decode_where_the_band_demands_it() -> None:
    """Four prefill are needed, the band allows one for each decode: decode stays at four."""
    spec = spec_of(ratio={"min": 0.25, "max": 1.0})
    members = (*many(4, P, prefilling(4400)), *many(4, D, decoding(300, output=68.2)))
    found = decide(view_of(spec, *members))
    assert (found.action, found.bound_by) == (Action.HOLD, "demand")


def test_prefill_beyond_the_ratio_is_withdrawn() -> None:
    members = (*many(4, P, prefilling(800)), *many(4, D, decoding(950)))
    found = decide(view_of(spec_of(), *members))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_IN, {P: 1}, "ratio")


def test_what_is_still_starting_spares_nobody() -> None:
    members = (*many(2, P, EASY), *many(2, D, decoding(850)), *(starting(D) for _ in range(2)))
    assert decide(view_of(spec_of(), *members)).action is Action.HOLD


def test_one_scale_in_at_a_time() -> None:
    begun = decide(quiet()).done
    found = decide(quiet(memory=replace(begun, low_since=NOW - 900, last_in_at=NOW - 5000)))
    assert found.action is Action.HOLD


@pytest.mark.parametrize("last", ["last_in_at", "last_out_at", "last_guard_at"])
def test_the_cooldown_counts_from_the_last_change_either_way(last: str) -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 900)
    recent = replace(memory, **{last: NOW - 500})  # type: ignore[arg-type]
    assert decide(quiet(memory=recent)).bound_by == "cooldown"
    past = replace(memory, **{last: NOW - 600})  # type: ignore[arg-type]
    assert decide(quiet(memory=past)).action is Action.SCALE_IN
    penalised = replace(past, cooldown_in_factor=2.0)
    assert decide(quiet(memory=penalised)).bound_by == "cooldown"


def test_who_is_not_heard_counts_at_full_target() -> None:
    """Ten at 35 %, all heard: six to spare, three go. One of them silent: two go."""
    calm = many(5, P, EASY)
    heard = decide(view_of(spec_of(), *calm, *many(10, D, decoding(350))))
    assert heard.delta[D] == 3
    silent = decide(view_of(spec_of(), *calm, *many(9, D, decoding(350)), member(D)))
    assert silent.delta[D] == 2
    assert "1 not heard all the time, at full target 1000.0" in silent.inputs["Q_in_decode"]


@pytest.mark.parametrize("role", [P, D])
def test_scrapes_that_say_nothing_are_not_heard(role: Role) -> None:
    """A metrics page of NaNs is fresh, and tells nothing: its engine may be full."""
    prefill, decode = [EASY] * 4, [LOW] * 4
    (prefill if role is P else decode)[0] = GARBLED
    spec = spec_of(slo={})
    members = (*(member(P, flow) for flow in prefill), *(member(D, flow) for flow in decode))
    found = decide(view_of(spec, *members))
    assert (found.action, found.bound_by) == (Action.HOLD, "consent")
    assert f"coverage.{role.value} (3 of 4 heard all through 60 s)" in found.reason


def test_low_for_less_than_the_long_window_is_not_low() -> None:
    memory = PolicyMemory(wanted={P: 2, D: 4}, low_since=NOW - 30)
    found = decide(quiet(memory=memory))
    assert found.action is Action.HOLD
    assert found.inputs["consent.demand"] == "no: low for 30 s of 60 s"


def test_low_demand_is_remembered_from_its_first_moment_and_forgotten_at_its_end() -> None:
    fresh = PolicyMemory(wanted={P: 2, D: 4})
    assert decide(quiet(memory=fresh)).memory.low_since == NOW
    busy = quiet(decode=decoding(950), memory=replace(fresh, low_since=NOW - 50))
    assert decide(busy).memory.low_since is None


def test_the_highest_demand_of_the_long_window_counts() -> None:
    """40 s ago all four were needed; the last 30 s were low."""
    members = (
        *many(2, P, EASY),
        *(member(D, decoding(980), LOW, heard_for=120) for _ in range(4)),
    )
    view = view_of(spec_of(window_in=90), *members)
    found = decide(view)
    assert (found.action, found.bound_by) == (Action.HOLD, "demand")
    assert "at its highest" in found.reason


def quiet_with_aborts() -> ServiceView:
    members = (
        *many(2, P, EASY),
        *(member(D, LOW, replace(LOW, aborted=1.0), heard_for=145) for _ in range(4)),
    )
    return view_of(spec_of(window_in=120), *members)


def some_without_kv() -> ServiceView:
    members = (*many(2, P, EASY), *many(3, D, LOW), member(D, replace(LOW, kv_usage=None)))
    return view_of(spec_of(), *members)


def in_breach() -> ServiceView:
    memory = PolicyMemory(
        wanted={P: 2, D: 4}, low_since=NOW - 900, breach=Breach(NOW - 50, {P: 2, D: 4})
    )
    flow = replace(EASY, ttft=1.05)
    return quiet(prefill=flow, memory=memory)


def some_unheard() -> ServiceView:
    members = (*many(6, P, EASY), *many(8, D, decoding(50)), *many(3, D))
    return view_of(spec_of(), *members)


def prefill_unheard() -> ServiceView:
    members = (member(P, EASY), member(P), *many(4, D, LOW))
    return view_of(spec_of(), *members)


REFUSALS: list[tuple[str, Callable[[], ServiceView]]] = [
    ("queues.decode", lambda: quiet(replace(LOW, waiting=2.0))),
    ("queues.prefill", lambda: quiet(prefill=replace(EASY, waiting=2.0))),
    ("queues.decode", lambda: quiet(replace(LOW, transferring=3.0))),
    ("queues.prefill", lambda: quiet(prefill=replace(EASY, waiting=None))),
    ("arrivals.decode", lambda: quiet(replace(LOW, waiting=9.0, waiting_growth=0.15))),
    ("arrivals.prefill", lambda: quiet(prefill=replace(EASY, running=None))),
    ("aborts.decode", quiet_with_aborts),
    ("kv_usage", lambda: quiet(replace(LOW, kv_usage=0.85))),
    ("kv_usage", some_without_kv),
    ("ttft", lambda: quiet(prefill=replace(EASY, ttft=0.95))),
    ("tbt", lambda: quiet(replace(LOW, tbt=0.046))),
    ("tbt", lambda: quiet(replace(LOW, tbt=None))),
    ("breach", in_breach),
    ("context", lambda: quiet(spec=spec_of(consent={"max_context": 500}))),
    ("coverage.decode", some_unheard),
    ("coverage.prefill", prefill_unheard),
]


@pytest.mark.parametrize(
    ("name", "make"), REFUSALS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(REFUSALS)]
)
def test_every_refusal_is_named(name: str, make: Callable[[], ServiceView]) -> None:
    found = decide(make())
    assert found.action is not Action.SCALE_IN
    assert found.bound_by == "consent", found.reason
    assert f"{name} (" in found.reason
    assert found.inputs[f"consent.{name}"].startswith("no: ")


def test_what_engines_never_tell_neither_consents_nor_refuses() -> None:
    dumb = replace(LOW, kv_usage=None, aborted=None)
    found = decide(quiet(dumb, replace(EASY, kv_usage=None, aborted=None)))
    assert found.action is Action.SCALE_IN
    assert found.inputs["consent.kv_usage"] == "yes: not told by these engines"


def test_requests_on_their_way_are_no_queue() -> None:
    """SGLang's decode counts a request in transfer while prefill works on it: TTFT × arrivals."""
    flow = replace(LOW, transferring=0.6)
    assert decide(quiet(flow)).action is Action.SCALE_IN


def test_more_present_than_wanted_is_withdrawn_without_low_demand() -> None:
    members = (*many(2, P, EASY), *many(5, D, decoding(770)))
    memory = PolicyMemory(wanted={P: 2, D: 4}, last_in_at=NOW - 60)
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_IN, {D: 1}, "wanted")
    assert found.done.wanted == {P: 2, D: 4}


def test_a_surplus_that_is_needed_stays() -> None:
    members = (*many(2, P, EASY), *many(5, D, decoding(950)))
    memory = PolicyMemory(wanted={P: 2, D: 4})
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert (found.action, found.bound_by) == (Action.HOLD, "consent")
    assert "remaining.decode" in found.reason


def test_a_surplus_stays_while_something_waits() -> None:
    members = (*many(2, P, EASY), *many(5, D, decoding(500, waiting=2.0)))
    memory = PolicyMemory(wanted={P: 2, D: 4})
    found = decide(view_of(spec_of(), *members, memory=memory))
    assert found.action is Action.HOLD
    assert "queues.decode" in found.reason


def test_above_a_maximum_nobody_is_asked_but_it_is_soft() -> None:
    members = (*many(2, P, EASY), *many(6, D, decoding(1500, waiting=9.0)))
    found = decide(view_of(spec_of(decode=(1, 4)), *members))
    assert (found.action, found.delta, found.bound_by) == (Action.SCALE_IN, {D: 2}, "bounds")
    assert found.done.soft is not None


@pytest.mark.parametrize(
    "reason", [WithdrawReason.OPERATOR, WithdrawReason.MAINTENANCE, WithdrawReason.SICK]
)
def test_what_others_withdrew_is_neither_supply_nor_surplus(reason: WithdrawReason) -> None:
    out = member(D, IDLE, state=InstanceState.WITHDRAWN, reason=reason)
    members = (*many(2, P, EASY), *many(4, D, decoding(950)), out)
    view = view_of(spec_of(), *members)
    assert view.memory.wanted == {P: 2, D: 4}
    found = decide(view)
    assert found.action is Action.HOLD
    assert found.inputs["S"].startswith("4000.0")
