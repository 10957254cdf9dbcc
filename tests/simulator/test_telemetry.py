"""What lies between an engine's metrics and whoever decides: delay, noise, holes."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_simulator.fleet import TelemetrySpec
from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.world.telemetry import COLUMNS, GAUGES, PLACE, SHARES, Telemetry
from tests.simulator.toy_plant import OUTPUT, PROMPT, ToyPlant

IDS = ["p", "d", "idle"]


class Ground:
    """A prefill, a decode and an idle decode under steady load."""

    def __init__(self, how: TelemetrySpec) -> None:
        self.plant = ToyPlant()
        for name, role in (("p", Role.PREFILL), ("d", Role.DECODE), ("idle", Role.DECODE)):
            self.plant.join(Seat(name, role, "H20", 1, {}))
        self.plant.open("p")
        self.plant.open("d")
        self.telemetry = Telemetry(self.plant, how, [1], keep=20)
        self.now = 0.0

    def run(self, seconds: int, requests: float = 8.0) -> None:
        number = np.array([requests])
        for _ in range(seconds):
            self.plant.advance(number, number * PROMPT, number * OUTPUT)
            self.now += 1.0
            self.telemetry.look(self.now)


def test_the_newest_look_is_as_old_as_the_delay() -> None:
    ground = Ground(TelemetrySpec(delay=3))
    ground.run(2)
    assert ground.telemetry.newest(ground.now) is None
    ground.run(8)
    look = ground.telemetry.newest(ground.now)
    assert look is not None
    assert look.at == 7.0
    assert ground.telemetry.told(look, ["d"])[0, PLACE["generation_tokens"]] == 6 * 8 * OUTPUT


def test_noise_spares_what_is_zero_and_counters_never_fall() -> None:
    ground = Ground(TelemetrySpec(delay=0, noise=0.2))
    told = []
    for _ in range(60):
        ground.run(5)
        look = ground.telemetry.newest(ground.now)
        assert look is not None
        told.append(ground.telemetry.told(look, IDS))
    values = np.array(told)
    assert not values[:, IDS.index("idle")].any()
    counters = [PLACE[name] for name in COLUMNS if name not in GAUGES]
    assert len(counters) == 9
    rises = np.diff(values[:, :, counters], axis=0)
    assert (rises >= 0).all()
    tokens = np.diff(values[:, IDS.index("d"), PLACE["generation_tokens"]])
    assert tokens.mean() == pytest.approx(5 * 8 * OUTPUT, rel=0.1)
    assert tokens.std() == pytest.approx(0.2 * 5 * 8 * OUTPUT, rel=0.3)
    assert values[:, :, [PLACE[name] for name in SHARES]].max() == 1.0  # cut off there


def test_without_noise_the_truth_is_told() -> None:
    ground = Ground(TelemetrySpec(delay=0))
    ground.run(10)
    look = ground.telemetry.newest(ground.now)
    assert look is not None
    readings = ground.plant.readings()
    for name in COLUMNS:
        expected = [getattr(readings, name)[readings.ids.index(one)] for one in reversed(IDS)]
        assert ground.telemetry.told(look, IDS[::-1])[:, PLACE[name]].tolist() == expected


def test_scrapes_go_missing_as_often_as_was_said() -> None:
    telemetry = Ground(TelemetrySpec(missing=0.3)).telemetry
    missed = telemetry.missed(10_000)
    assert missed is not None
    assert missed.mean() == pytest.approx(0.3, abs=0.02)
    assert Ground(TelemetrySpec()).telemetry.missed(5) is None


def test_an_engine_that_comes_later_is_told_apart() -> None:
    ground = Ground(TelemetrySpec(delay=0, noise=0.1))
    ground.run(5)
    ground.telemetry.told(ground.telemetry.look(ground.now), IDS)
    ground.plant.join(Seat("new", Role.DECODE, "H20", 1, {}))
    ground.plant.open("new")
    ground.plant.remove("idle")
    ground.run(5)
    told = ground.telemetry.told(ground.telemetry.look(ground.now), ["new", "p"])
    assert told[0, PLACE["generation_tokens"]] == pytest.approx(4 * 4 * OUTPUT, rel=0.5)
    assert told[1, PLACE["prompt_tokens"]] == pytest.approx(10 * 8 * PROMPT, rel=0.3)
