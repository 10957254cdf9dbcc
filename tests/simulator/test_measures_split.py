"""A steady load on a few engines: the plant holds what the formulas say, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import QUANTILE, Journey, Offer
from heteroscale_simulator.measures.split import Bench, expected
from heteroscale_simulator.measures.steady import Line, Mix, Seen, Watch, look
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import Plant, PlantSettings, Slo, Workload
from heteroscale_simulator.profiles.catalogue import speeds_for

P, D = Role.PREFILL, Role.DECODE
SPEEDS = speeds_for(None, ["H20"], 1)
SLO = Slo(ttft=2.0, tbt=0.05)
SPREAD = np.array([0.5, 1.0, 1.5])
SPLITS = [(1, 7), (2, 6), (4, 4), (6, 2), (7, 1)]


def plant(seconds: int) -> Plant:
    return FlowPlant(SPEEDS, PlantSettings(SLO), seconds)


def bench(prompt: float, output: float) -> Bench:
    mix = Mix("a service", np.full(3, 1 / 3), prompt * SPREAD, output * SPREAD)
    offer = Offer("H20", 1, SPEEDS.gpu("H20"))
    journey = Journey(SLO, Workload(), SPEEDS.transfer.s1, SPEEDS.kv_bytes_per_token)
    return Bench(mix, offer, offer, journey)


BENCHES = {"prompts": bench(3000, 60), "answers": bench(800, 240)}


def seen(service: str, split: tuple[int, int], share: float) -> Seen:
    """Return what a share of the expected load comes to."""
    prefill, decode = split
    rate, _ = expected(BENCHES[service], prefill, decode)
    lines = [Line(P, "H20", 1, prefill), Line(D, "H20", 1, decode)]
    return look(plant, lines, BENCHES[service].mix, share * rate, Watch(settle=60))


@pytest.mark.parametrize("service", BENCHES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_plant_holds_what_the_formulas_say_within_8_percent(
    service: str, split: tuple[int, int]
) -> None:
    assert seen(service, split, 0.92).attainment >= QUANTILE
    assert seen(service, split, 1.08).attainment < QUANTILE


def test_the_best_split_is_an_interior_one_and_another_for_another_service() -> None:
    best = {
        service: max(range(1, 16), key=lambda prefill: expected(one, prefill, 16 - prefill)[0])
        for service, one in {**BENCHES, "long": bench(2400, 120)}.items()
    }
    # Prompts of 3,000 tokens with 60 answered want all the prefill there can be; the others do not.
    assert 1 < best["answers"] < best["long"] < best["prompts"] == 15


def test_more_prefill_helps_until_decode_bounds() -> None:
    found = [expected(BENCHES["answers"], prefill, 16 - prefill) for prefill in range(1, 16)]
    rates, bounds = zip(*found, strict=True)
    top = rates.index(max(rates))
    assert list(rates[: top + 1]) == sorted(rates[: top + 1])
    assert list(rates[top:]) == sorted(rates[top:], reverse=True)
    assert (bounds[0], bounds[-1]) == (P, D)


def test_the_busier_role_is_the_one_that_bounds() -> None:
    first, last = seen("answers", (1, 7), 0.95), seen("answers", (7, 1), 0.95)
    assert first.gpu_util[P] > last.gpu_util[P]
    # Decode's GPUs look busy all the same: the paper's finding.
    assert last.gpu_util[D] > 0.9


def test_throughput_is_what_arrives_and_what_is_generated() -> None:
    lines = [Line(P, "H20", 1, 4), Line(D, "H20", 1, 4)]
    told = look(plant, lines, BENCHES["answers"].mix, 4.0, Watch(settle=60))
    assert told.attainment == pytest.approx(1.0, abs=1e-6)
    assert told.prompt_rate == pytest.approx(4 * 800)
    assert told.output_rate == pytest.approx(4 * 240, rel=0.02)
    assert told.ttft is not None
    assert told.tbt is not None
    assert 0 < told.tbt < 0.05 < told.ttft < 2.0
