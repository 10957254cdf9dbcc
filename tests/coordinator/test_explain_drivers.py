"""What `explain` says would change a service that demand in tokens does not drive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.core.model import Service, SignalValue
from heteroscale_coordinator.edge.explain import explain
from heteroscale_coordinator.edge.store.codec import decode
from tests.coordinator.values import NOW, decision
from tests.core.policy.build import spec_of

SM = {"signal": "prefill_sm_activity", "target": 0.5}


def told(**policy: Any) -> str:
    service = Service("chat", spec_of(**policy))
    return "\n".join(explain(service, pb.Service(name="chat"), None, NOW))


def test_signals_alone_and_no_token() -> None:
    text = told(driver="signals", signals=[SM])
    assert "scale-out: prefill_sm_activity above 1.10 × its target, starting ones counted" in text
    assert "scale-in: prefill_sm_activity below 0.90 × its target over 1m" in text
    assert "demand above" not in text


def test_signals_beside_demand() -> None:
    text = told(signals=[SM])
    assert "demand above" in text
    assert "prefill_sm_activity above" in text


def test_latency_and_its_tiers() -> None:
    tiers = [{"breach": 1.1, "step": 0.1}, {"breach": 1.2, "step": 0.2}]
    text = told(driver="latency", guard={"tiers": tiers})
    assert "scale-in: every mean below 0.9 × its SLO over 1m; and every consent" in text
    assert "mean TBT above 55ms (1.1 × SLO 50ms) adds 10% of what served when it began" in text
    assert "mean TBT above 60ms (1.2 × SLO 50ms) adds 20% of what served when it began" in text


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            SignalValue("decode_tps", 900.0, "tok/s", "partial", 0.5, 15.0, 15.0, "2 of 4 silent"),
            "  decode_tps = 900 tok/s over 15 s (partial, 50% of instances heard: 2 of 4 silent)",
        ),
        (
            SignalValue("decode_tps", 900.0, "tok/s", "ok", 1.0, 15.0, 15.0),
            "  decode_tps = 900 tok/s over 15 s (ok, 100% of instances heard)",
        ),
    ],
)
def test_a_signal_is_told_with_its_window_and_why_it_is_not_ok(
    value: SignalValue, line: str
) -> None:
    one = replace(decision(), signals=(value,))
    service = Service("chat", spec_of())
    assert line in explain(service, pb.Service(name="chat"), one, NOW)


def test_a_signal_stored_before_it_had_a_window_is_read() -> None:
    stored = ["decode_tps", 900.0, "tok/s", "ok", 1.0]
    assert decode(SignalValue, stored, "d-1") == SignalValue("decode_tps", 900.0, "tok/s", "ok")
