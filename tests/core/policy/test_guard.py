"""The latency guard: small bounded steps in a breach, inside the ratio; and what a breach is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale_coordinator.core.memory import Breach, PolicyMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide, stability
from heteroscale_coordinator.core.policy.guard import step_size
from heteroscale_coordinator.core.spec import PolicySpec
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
)

EASY, SLOW_FIRST = prefilling(4000), prefilling(4000, ttft=1.2)
FINE, SLOW = decoding(950), decoding(950, tbt=0.06)
BAND = {"min": 0.25, "max": 1.0}


def guarded(prefill: Any = EASY, decode: Any = FINE, *others: Any, **changes: Any) -> Verdict:
    """Return the verdict for two prefill and four decode."""
    members = (*many(2, P, prefill), *many(4, D, decode), *others)
    memory = changes.pop("memory", PolicyMemory(wanted={P: 2, D: 4}))
    return decide(view_of(changes.pop("spec", spec_of()), *members, memory=memory, **changes))


def begun(**changes: Any) -> PolicyMemory:
    breach = Breach(NOW - 600, {P: 2, D: 4}, changes.pop("last_step_at", None))
    return replace(PolicyMemory(wanted={P: 2, D: 4}, breach=breach), **changes)


def test_tokens_too_slow_add_decode_and_what_the_ratio_asks() -> None:
    found = guarded(decode=SLOW)
    assert (found.action, found.delta, found.bound_by) == (
        Action.SCALE_OUT,
        {P: 1, D: 1},
        "guard",
    )
    assert found.done.breach == Breach(NOW, {P: 2, D: 4}, NOW, {D: 1})
    assert found.done.last_guard_at == NOW
    assert found.done.last_out_at is None, "the guard holds up no scale-out by demand"


def test_first_tokens_too_late_add_prefill() -> None:
    assert guarded(SLOW_FIRST, spec=spec_of(ratio=BAND)).delta == {P: 1}
    assert guarded(SLOW_FIRST).delta == {P: 1, D: 1}


def test_first_tokens_too_late_add_decode_when_requests_wait_there() -> None:
    waiting = decoding(900, waiting=2.0)
    assert guarded(SLOW_FIRST, waiting, spec=spec_of(ratio=BAND)).delta == {D: 1}


def test_a_little_late_is_no_breach() -> None:
    found = guarded(prefilling(4000, ttft=1.05))
    assert (found.action, found.memory.breach) == (Action.HOLD, None)


def test_a_breach_ends_at_the_slo_not_before() -> None:
    between = prefilling(4000, ttft=1.05)
    assert guarded(between, memory=begun()).memory.breach is not None
    assert guarded(memory=begun()).memory.breach is None
    assert guarded(IDLE, IDLE, memory=begun()).memory.breach is None


def test_unknown_latency_neither_begins_nor_ends_a_breach() -> None:
    untold = decoding(950, tbt=None)
    assert guarded(decode=untold).memory.breach is None
    assert guarded(decode=untold, memory=begun()).memory.breach is not None


def test_few_observations_are_no_breach() -> None:
    rare = replace(IDLE, requests=0.02, prompt=20.0, computed=20.0, ttft=9.0)
    assert guarded(rare).memory.breach is None


def test_no_step_while_one_is_pending() -> None:
    found = guarded(EASY, SLOW, starting(D), starting(P), memory=begun())
    assert (found.action, found.bound_by) == (Action.HOLD, "guard")
    assert found.inputs["pending"] == "1 decode starting, a step is 1"


@pytest.mark.parametrize("since", ["last_guard_at", "last_out_at"])
def test_one_step_for_each_start_up_and_window(since: str) -> None:
    soon = begun(**{since: NOW - 134})
    assert guarded(decode=SLOW, memory=soon).action is Action.HOLD
    later = begun(**{since: NOW - 135})
    assert guarded(decode=SLOW, memory=later).action is Action.SCALE_OUT


def test_start_up_times_that_were_measured_replace_the_assumed_one() -> None:
    measured = begun(last_guard_at=NOW - 60, startup_times=(30.0,) * 10)
    assert guarded(decode=SLOW, memory=measured).action is Action.SCALE_OUT
    assert stability.startup_p90(PolicyMemory(), PolicySpec()) == 120.0
    times = tuple(float(n) for n in range(1, 11))
    assert stability.startup_p90(PolicyMemory(startup_times=times), PolicySpec()) == 9.0


def test_steps_are_fractions_of_what_served_when_the_breach_began() -> None:
    assert [step_size(n, 0.1) for n in (1, 9, 10, 19, 30)] == [1, 1, 1, 1, 3]
    members = (*many(10, P, prefilling(4000)), *many(40, D, SLOW))
    spec = spec_of(prefill=(1, 64), decode=(1, 64), ratio=BAND)
    memory = PolicyMemory(wanted={P: 10, D: 40}, breach=Breach(NOW - 600, {P: 5, D: 20}))
    found = decide(view_of(spec, *members[:50], memory=memory))
    assert (found.action, found.bound_by) == (Action.HOLD, "guard"), "it has doubled already"
    memory = replace(memory, breach=Breach(NOW - 600, {P: 10, D: 30}))
    assert decide(view_of(spec, *members, memory=memory)).delta == {P: 1, D: 3}


def test_bounds_win_over_the_guard() -> None:
    found = guarded(decode=SLOW, spec=spec_of(decode=(1, 4)))
    assert (found.action, found.bound_by) == (Action.HOLD, "bounds")


def test_decode_is_not_added_for_the_prefill_that_has_no_room() -> None:
    full = spec_of(prefill=(1, 2), ratio={"min": 0.25, "max": 0.5})
    found = guarded(SLOW_FIRST, spec=full)
    assert (found.action, found.bound_by) == (Action.HOLD, "bounds")
    assert "no room for prefill" in found.reason


def test_backoff_holds_the_guard_too() -> None:
    found = guarded(decode=SLOW, memory=begun(launch_after=NOW + 9))
    assert (found.action, found.bound_by) == (Action.HOLD, "backoff")


def test_ttft_is_read_at_decode_when_prefill_tells_none() -> None:
    mute = prefilling(4000, ttft=None)
    found = guarded(mute, decoding(950, ttft=1.5))
    assert found.action is Action.SCALE_OUT
    assert "ttft 1500 ms" in found.reason


def test_without_an_slo_nothing_is_watched() -> None:
    assert guarded(decode=SLOW, spec=spec_of(slo={})).memory.breach is None
