"""An instance that stands apart is named, and neither hides load nor raises it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.view import Member
from tests.core.policy.build import (
    IDLE,
    NOW,
    D,
    Flow,
    P,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    track_of,
    view_of,
)

EASY = prefilling(3000)
STUCK = replace(IDLE, running=12.0)


def decided(*decodes: Member, prefill: Any = None, **policy: Any) -> Verdict:
    spec = spec_of(prefill=(1, 64), decode=(1, 64), **policy)
    prefills = prefill or many(len(decodes) // 2, P, EASY)
    return decide(view_of(spec, *prefills, *decodes))


def load(found: Verdict, name: str = "decode_load") -> float:
    value = next(one.value for one in found.signals if one.name == name)
    assert value is not None
    return value


def test_a_stuck_engine_is_named_and_hides_no_load() -> None:
    """Its peers are full; without it the mean would say that one in ten is free."""
    stuck = member(D, STUCK)
    found = decided(*many(9, D, decoding(1150)), stuck)
    assert (
        f"{stuck.instance.instance_id} is stuck: 12 running, no token in 15 s"
        in (found.inputs["outliers"])
    )
    assert load(found) == pytest.approx(1.15, abs=0.01)
    assert found.action is Action.SCALE_OUT


def test_a_stuck_engines_queue_raises_no_load() -> None:
    stuck = member(D, replace(STUCK, waiting=500.0))
    found = decided(*many(9, D, decoding(950)), stuck)
    assert load(found) == pytest.approx(0.95, abs=0.01)
    assert found.action is Action.HOLD


def test_a_slow_gpu_is_named_and_its_latency_moves_nothing() -> None:
    slow = member(D, decoding(300, running=20.0, tbt=0.6))
    found = decided(*many(9, D, decoding(950, running=19.0)), slow)
    assert "is slow: 300 tok/s, its peers 950 at no more load" in found.inputs["outliers"]
    assert "tbt 20 ms" in found.inputs["tbt"]
    assert found.action is Action.HOLD


def test_one_that_serves_little_because_it_is_sent_little_does_not_stand_apart() -> None:
    found = decided(*many(9, D, decoding(950, running=19.0)), member(D, decoding(100, running=2.0)))
    assert "outliers" not in found.inputs


def test_a_spread_that_is_usual_among_the_peers_is_no_outlier() -> None:
    rates = (200, 400, 600, 800, 1000, 1200, 1400)
    found = decided(*(member(D, decoding(rate, running=10.0)) for rate in rates))
    assert "outliers" not in found.inputs


@pytest.mark.parametrize(
    ("flow", "says"),
    [
        (decoding(1e6, running=19.0), "says 1000000 tok/s, its peers 850"),
        (decoding(850, running=19.0, waiting=1e6), "holds 1000019 requests, its peers 19"),
    ],
)
def test_absurd_readings_move_nothing(flow: Flow, says: str) -> None:
    found = decided(*many(9, D, decoding(850, running=19.0)), member(D, flow))
    assert says in found.inputs["outliers"]
    assert load(found) == pytest.approx(0.85, abs=0.01)


def test_with_too_few_peers_it_is_named_and_counted_as_it_is() -> None:
    found = decided(*many(3, D, decoding(1000)), member(D, STUCK))
    assert "(counted as it is: 3 peers, 4 are needed)" in found.inputs["outliers"]
    assert load(found) == pytest.approx(0.75, abs=0.01)


def test_peers_are_of_the_same_gpu_type() -> None:
    decodes = (*many(6, D, decoding(1000), gpu_type="H20"), member(D, STUCK, gpu_type="L20"))
    assert "0 peers" in decided(*decodes).inputs["outliers"]


def test_where_many_stand_apart_they_are_the_fleet() -> None:
    found = decided(*many(4, D, decoding(1000)), *many(4, D, STUCK))
    assert "4 of 8 stand apart" in found.inputs["outliers"]
    assert load(found) == pytest.approx(0.5, abs=0.01)


def test_prefill_may_take_long_over_a_prompt_before_it_counts_it() -> None:
    """Tokens come at a prompt's end: half a minute without any is no standstill."""
    busy = member(
        P, prefilling(3000, running=1.0), replace(IDLE, running=1.0, computed=0.0), each=30.0
    )
    prefills = (*many(9, P, prefilling(3000, running=1.0)), busy)
    found = decided(*many(20, D, decoding(900)), prefill=prefills)
    assert "stuck" not in found.inputs.get("outliers", "")
    dead = member(
        P, prefilling(3000, running=1.0), replace(IDLE, running=1.0, computed=0.0), each=75.0
    )
    prefills = (*many(9, P, prefilling(3000, running=1.0)), dead)
    found = decided(*many(20, D, decoding(900)), prefill=prefills)
    assert "is stuck: 1 running, no token in 60 s" in found.inputs["outliers"]


def test_one_that_was_heard_for_a_moment_only_is_not_stuck_yet() -> None:
    fresh = member(D, STUCK)
    fresh = replace(fresh, track=track_of(STUCK, now=NOW, heard_for=5.0))
    assert "outliers" not in decided(*many(9, D, decoding(950)), fresh).inputs


def test_who_is_set_aside_stands_beside_every_signal_of_the_role() -> None:
    stuck = member(D, STUCK)
    found = decided(*many(9, D, decoding(950)), stuck)
    shown = {one.name: one for one in found.signals}
    assert shown["decode_tps"].reason == f"set aside: {stuck.instance.instance_id}"
    assert shown["decode_outliers"].value == 1
    assert shown["prefill_tps"].reason == ""
