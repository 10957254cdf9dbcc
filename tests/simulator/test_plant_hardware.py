"""What the paper found of hardware signals appears by itself: nothing here is told to the model."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale_simulator.plant.hardware import (
    COMPUTE_BOUND,
    MEMORY_BOUND,
    compute_seconds,
    decode_running,
    sm_activity,
)
from heteroscale_simulator.profiles.speed_grid import SpeedGrid
from heteroscale_simulator.traffic.load import Floats
from tests.simulator.plants import plant, profile, run

RATES = np.array([0.5, 1, 2, 4, 8, 12, 16, 20, 24, 28, 30])
"""Of 500 + 100 tokens; three prefill engines saturate just above 50, three decode engines at 44."""


@pytest.fixture(scope="module")
def signals() -> dict[str, Floats]:
    """Signals at each of RATES, after a minute of it."""
    found: dict[str, list[float]] = {}
    for rate in RATES:
        over = plant(3, 3)
        first = run(over, 60, float(rate)).readings()
        read = run(over, 20, float(rate)).readings()
        for role, part in (("prefill", slice(3)), ("decode", slice(3, None))):
            for name in ("gpu_util", "sm_activity"):
                value = float(getattr(read, name)[part].mean())
                found.setdefault(f"{role} {name}", []).append(value)
        risen = read.computed_prompt_tokens - first.computed_prompt_tokens
        found.setdefault("prefill tps", []).append(float(risen[:3].sum()) / 20)
        risen = read.generation_tokens - first.generation_tokens
        found.setdefault("decode tps", []).append(float(risen[3:].sum()) / 20)
    return {name: np.array(values) for name, values in found.items()}


def slope_share(values: Floats) -> float:
    """Return how much of the whole rise happens in the upper half of the load."""
    middle = int(np.searchsorted(RATES, RATES[-1] / 2))
    return float((values[-1] - values[middle]) / (values[-1] - 0.0))


@pytest.mark.parametrize(
    "name", ["prefill tps", "decode tps", "prefill gpu_util", "prefill sm_activity"]
)
def test_these_rise_with_load_along_a_line(signals: dict[str, Floats], name: str) -> None:
    assert np.corrcoef(RATES, signals[name])[0, 1] > 0.99
    assert slope_share(signals[name]) > 0.4


def test_decode_utilisation_is_high_at_slight_load_and_says_nothing_after(
    signals: dict[str, Floats],
) -> None:
    util = signals["decode gpu_util"]
    slight = int(np.searchsorted(RATES, 4))
    # A tenth of what it can carry: the loop hardly ever rests.
    assert util[slight] > 0.75
    assert slope_share(util) < 0.02
    assert slope_share(signals["prefill gpu_util"]) > 20 * slope_share(util)


def test_the_order_of_signals_is_the_papers(signals: dict[str, Floats]) -> None:
    """Prefill TPS, then prefill hardware, then decode SM activity, decode utilisation last."""
    worth = {
        name: float(np.corrcoef(RATES[1:], values[1:])[0, 1]) for name, values in signals.items()
    }
    assert worth["prefill tps"] >= worth["prefill gpu_util"] - 0.01
    assert worth["prefill gpu_util"] > worth["decode sm_activity"]
    assert worth["decode sm_activity"] > worth["decode gpu_util"]


def test_sm_activity_lies_between_waiting_and_computing() -> None:
    busy = np.array([0.0, 0.5, 1.0, 1.0, 1.0])
    compute = np.array([0.5, 0.0, 0.0, 1.0, 9.0])
    expected = [0.0, MEMORY_BOUND / 2, MEMORY_BOUND, COMPUTE_BOUND, COMPUTE_BOUND]
    assert sm_activity(busy, compute) == pytest.approx(expected)


def test_a_loop_runs_while_one_request_is_in_it() -> None:
    assert decode_running(np.array([0.0, 1.0, 10.0])) == pytest.approx([0, 0.632, 1], abs=1e-3)


def test_pure_compute_is_the_best_prefill_s() -> None:
    types = list(profile().gpus.values())
    seconds = compute_seconds(SpeedGrid(types))
    best = min(types[0].prefill_seconds(2.0**e) / 2.0**e for e in range(6, 15))
    assert seconds[0] == pytest.approx(best)
    assert seconds[1] == pytest.approx(2 * seconds[0])
