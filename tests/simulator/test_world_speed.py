"""How fast the drivers are; printed (run with -s), never asserted: machines differ."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_coordinator import zones
from heteroscale_coordinator.core.draft import Mint
from heteroscale_coordinator.core.events import Changes, Event
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.step import step
from heteroscale_simulator.fleet import parse_fleet
from heteroscale_simulator.world.simulation import ServiceRun, simulate
from tests.simulator.test_world import FLEET, SERVICE, service
from tests.simulator.toy_plant import ToyPlant, steady

SECONDS = 600


def test_a_day_of_two_hundred_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0.0

    def timed(state: State, events: Sequence[Event], now: float, mint: Mint) -> Changes:
        nonlocal spent
        began = time.process_time()
        changes = step(state, events, now, mint)
        spent += time.process_time() - began
        return changes

    monkeypatch.setattr(zones, "step", timed)
    plant = ToyPlant()
    spec = service(SERVICE.replace("max: 20", "max: 67").replace("max: 40", "max: 133"))
    initial = {Role.PREFILL: 67, Role.DECODE: 133}
    one = ServiceRun("chat", spec, steady(np.full(SECONDS, 930.0)), plant, initial)
    began = time.process_time()
    result = simulate([one], parse_fleet(FLEET.replace("nodes: 8", "nodes: 40")).spec, seed=1)
    whole = time.process_time() - began
    day = 86_400 / SECONDS
    print(  # noqa: T201 - the figure is the point
        f"200 engines, a day, CPU seconds: the core's turns {spent * day:.0f}, "
        f"driver, yard and toy plant {(whole - spent) * day:.0f}"
    )
    assert result.services["chat"].decisions == ()
