"""Splits of a few instances: an interior one is best, another for another service, as the paper says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import QUANTILE, Journey, Offer
from heteroscale_simulator.measures.steady import Line, Mix, Watch, look
from heteroscale_simulator.measures.sweep import Bench, Split, best, expected, sweep
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import Plant, PlantSettings, Slo, Workload
from heteroscale_simulator.profiles.catalogue import speeds_for

P, D = Role.PREFILL, Role.DECODE
SPEEDS = speeds_for(None, ["H20"], 1)
SLO = Slo(ttft=2.0, tbt=0.05)
SPREAD = np.array([0.5, 1.0, 1.5])


def plant(seconds: int) -> Plant:
    return FlowPlant(SPEEDS, PlantSettings(SLO), seconds)


def bench(prompt: float, output: float) -> Bench:
    mix = Mix("a service", np.full(3, 1 / 3), prompt * SPREAD, output * SPREAD)
    offer = Offer("H20", 1, SPEEDS.gpu("H20"))
    journey = Journey(SLO, Workload(), SPEEDS.transfer.s1, SPEEDS.kv_bytes_per_token)
    return Bench(mix, offer, offer, journey, plant)


HEAVY_PROMPTS = bench(3000, 60)
LONG_ANSWERS = bench(800, 240)


@cache
def swept(one: str) -> list[Split]:
    return sweep({"prompts": HEAVY_PROMPTS, "answers": LONG_ANSWERS}[one], 8, [1, 2, 4, 6, 7])


def test_the_best_split_is_an_interior_one_and_another_for_another_service() -> None:
    prompts, answers = best(swept("prompts")), best(swept("answers"))
    assert answers.prefill < prompts.prefill
    assert answers.prefill > 1
    assert prompts.prefill <= 7


@pytest.mark.parametrize("service", ["prompts", "answers"])
def test_what_a_split_holds_is_near_what_the_formulas_say(service: str) -> None:
    for split in swept(service):
        assert split.rate == pytest.approx(split.expected, rel=0.08), split
        assert split.seen is not None
        assert split.seen.attainment >= QUANTILE


def test_more_prefill_helps_until_decode_bounds() -> None:
    rates = [split.rate for split in swept("answers")]
    bounds = [split.bound_by for split in swept("answers")]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert bounds[0] is P
    assert bounds[-1] is D


def test_the_busier_role_is_the_one_that_bounds() -> None:
    first, *_, last = swept("answers")
    assert first.seen is not None
    assert last.seen is not None
    assert first.seen.gpu_util[P] > last.seen.gpu_util[P]
    # Decode's GPUs look busy all the same: the paper's finding.
    assert last.seen.gpu_util[D] > 0.9


def test_throughput_is_what_arrives_and_what_is_generated() -> None:
    lines = [Line(P, "H20", 1, 4), Line(D, "H20", 1, 4)]
    seen = look(plant, lines, LONG_ANSWERS.mix, 4.0, Watch(settle=60))
    assert seen.attainment == pytest.approx(1.0, abs=1e-6)
    assert seen.prompt_rate == pytest.approx(4 * 800)
    assert seen.output_rate == pytest.approx(4 * 240, rel=0.02)


def test_a_load_beyond_what_is_held_is_missed() -> None:
    rate, _ = expected(LONG_ANSWERS, 2, 6)
    lines = [Line(P, "H20", 1, 2), Line(D, "H20", 1, 6)]
    assert look(plant, lines, LONG_ANSWERS.mix, rate * 1.3, Watch(settle=60)).attainment < 0.5


def test_a_split_without_a_role_is_refused() -> None:
    with pytest.raises(ValueError, match="8 of 8 for prefill leaves a role without any"):
        sweep(LONG_ANSWERS, 8, [4, 8])


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    sweep(LONG_ANSWERS, 2, tell=lambda done, of: told.append((done, of)))
    assert told == [(1, 1)]
