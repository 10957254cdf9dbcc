"""Services of one role under the laws that know two: what has no partner is sized by itself."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import Action, Verdict
from heteroscale_coordinator.core.policy import decide
from heteroscale_coordinator.core.policy.view import Short
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import NOW, A, Flow, aggregated_spec, decoding, many, view_of

RUNNING = {"signal": "aggregated_running", "target": 10.0}


def decided(spec: ServiceSpec, flow: Flow, n: int = 8, **changes: Any) -> Verdict:
    memory = PolicyMemory(wanted={A: n}, low_since=NOW - 3600)
    return decide(view_of(spec, *many(n, A, flow), memory=memory, **changes))


@pytest.mark.parametrize(
    ("running", "delta"),
    [(15.0, {A: 4}), (10.0, {}), (2.0, {A: 3})],
)
def test_a_signal_sizes_it_both_ways(running: float, delta: dict[Any, int]) -> None:
    spec = aggregated_spec(driver="signals", signals=[RUNNING])
    found = decided(spec, decoding(100.0, running=running))
    # 8 × 0.2 ÷ 0.9 asks for two of eight; half of the surplus of six leaves.
    assert found.delta == delta
    assert (found.action is Action.HOLD) == (not delta)


@pytest.mark.parametrize(("tbt", "delta"), [(0.08, {A: 1}), (0.048, {}), (0.02, {A: 1})])
def test_latency_drives_it_by_its_own_steps(tbt: float, delta: dict[Any, int]) -> None:
    guard = {"tiers": [{"breach": 1.1, "step": 0.1}], "step_in": 0.05}
    spec = aggregated_spec(driver="latency", guard=guard)
    found = decided(spec, decoding(100.0, tbt=tbt))
    assert found.delta == delta
    if tbt < 0.04:
        assert found.action is Action.SCALE_IN


def test_in_a_shortage_it_gives_what_is_asked_and_keeps_its_essential_count() -> None:
    spec = aggregated_spec((2, 32), shortage={"hourly": 1.0})
    asked = Short("chat", 3, {A: 9}, frozenset({"i-x"}))
    assert decided(spec, decoding(1300.0), short=asked).delta == {A: 3}
    much = Short("chat", 30, {A: 30}, frozenset({"i-x"}))
    assert decided(spec, decoding(1300.0), short=much).delta == {A: 6}
