"""The world in virtual time, around a toy plant: the joint policy scales it, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.documents import read_documents
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_simulator.fleet import FleetSpec, parse_fleet
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.world.result import WorldResult
from heteroscale_simulator.world.simulation import ServiceRun, simulate
from tests.simulator.toy_plant import ToyPlant, steady

FLEET = """
apiVersion: heteroscale/v1
kind: Fleet
metadata: {name: eight}
spec:
  startup: {median: 60s, p90: 90s}
  pools:
    - {name: h20, nodes: 8, gpuType: H20, gpusPerNode: 8}
"""
SERVICE = """
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: p, gpuTypes: [H20], min: 1, max: 20, target: 14000}
    decode: {template: d, gpuTypes: [H20], min: 1, max: 40, target: 1400}
  ratio: {min: 0.25, max: 2}
"""


def fleet(more: str = "") -> FleetSpec:
    return parse_fleet(FLEET + more).spec


def service(text: str = SERVICE) -> ServiceSpec:
    return read_documents(text)[0].parse(ServiceDocument).spec


def hump(seconds: int, low: float, high: float) -> Load:
    """Return a load that rises and falls once."""
    phase = 2 * np.pi * np.arange(seconds) / seconds
    return steady(low + (high - low) * (1 - np.cos(phase)) / 2)


def run(load: Load, *, seed: int = 1, on: FleetSpec | None = None) -> tuple[WorldResult, ToyPlant]:
    plant = ToyPlant()
    one = ServiceRun("chat", service(), load, plant)
    return simulate([one], on or fleet(), seed=seed), plant


@pytest.fixture(scope="module")
def day() -> tuple[WorldResult, ToyPlant]:
    return run(hump(7200, 20, 150))


def test_the_joint_policy_follows_the_load_out_and_in(day: tuple[WorldResult, ToyPlant]) -> None:
    result, _ = day
    decode = result.services["chat"].counts[Role.DECODE, InstanceState.IN_SERVICE]
    assert decode[0] == 4  # the busiest of the first five minutes: 22 requests/s
    assert decode.max() >= 20
    assert decode[-1] < decode.max()
    actions = {decision.action for decision in result.services["chat"].decisions}
    assert {"scale_out", "scale_in", "finish_scale_in"} <= actions


def test_nothing_is_lost_on_the_way(day: tuple[WorldResult, ToyPlant]) -> None:
    result, plant = day
    assert plant.lost == 0
    assert plant.finished == pytest.approx(plant.arrived)
    assert result.drains_forced == 0


def test_the_same_seed_decides_the_same(day: tuple[WorldResult, ToyPlant]) -> None:
    again, _ = run(hump(7200, 20, 150))
    assert again.services["chat"].decisions == day[0].services["chat"].decisions
    assert again.intervals == day[0].intervals
