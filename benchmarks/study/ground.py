"""What all runs of the study share: the service, its fleet, the load, and the pressure test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_simulator.fleet import FleetSpec
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import PlantSettings, Slo
from heteroscale_simulator.profiles.catalogue import speeds_for
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.source import load_source
from heteroscale_simulator.world import simulation
from heteroscale_simulator.world.result import ServiceResult

PROMPT, OUTPUT = 1500, 900
SLO = Slo(ttft=2.0, tbt=0.015)
SPLIT = 4
"""Instances of each role in the pressure test."""
HELD = 0.98
"""Share of requests inside the SLO with which a load is held."""
GROWTH = 1.25
"""From one load of the pressure test to the next."""
FLEET = """\
pools:
  - {name: h20, nodes: 24, gpuType: H20, gpusPerNode: 8, topology: {nodesPerS1: 8, s1PerS2: 4}}
startup: {median: 90s, p90: 120s}
telemetry: {delay: 1s}
"""
SERVICE: dict[str, Any] = {
    "model": {"name": "Llama-3.1-8B", "weights": "bfloat16"},
    "roles": {
        "prefill": {"template": "prefill", "gpuTypes": ["H20"]},
        "decode": {"template": "decode", "gpuTypes": ["H20"]},
    },
    "ratio": 1.0,
}


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the pressure test found."""

    rate: float
    """Requests/s of the largest load that ``SPLIT`` instances of each role hold."""
    readings: Mapping[str, float]
    """Each signal of one instance under that load; latencies are means in seconds."""
    ceiling: float
    """Share of requests inside the SLO with hardly any load: the longest prompts miss it alone."""


def fleet() -> FleetSpec:
    """Return the fleet: more than the busiest minute needs twice over."""
    return FleetSpec.model_validate(yaml.safe_load(FLEET))


def service(most: int, *, least: int = 1, slo: Mapping[str, float], **policy: Any) -> ServiceSpec:
    """Return the service with so many instances of each role, at least and at most."""
    roles = {name: {**role, "min": least, "max": most} for name, role in SERVICE["roles"].items()}
    return ServiceSpec.model_validate({**SERVICE, "roles": roles, "slo": slo, "policy": policy})


def run(spec: ServiceSpec, load: Load, first: int, seed: int) -> tuple[ServiceResult, int]:
    """Play a load; return what came of it and its length in seconds. The plant's SLO is one for all."""
    there = fleet()
    profile = speeds_for(spec.model, tuple(there.gpu_types), 1)
    speeds = dict.fromkeys((Role.PREFILL, Role.DECODE), profile)
    plant = FlowPlant(speeds, PlantSettings(SLO, seed=seed), load.seconds + simulation.AFTER)
    initial = {Role.PREFILL: first, Role.DECODE: first}
    result = simulation.simulate(
        [simulation.ServiceRun("study", spec, load, plant, initial)], there, None, seed
    )
    return result.services["study"], result.seconds


def steady(rate: float, minutes: int, seed: int) -> Load:
    """Return a load of one rate."""
    source = f"gen:steady?hours={minutes / 60}&peak={rate}&input={PROMPT}&output={OUTPUT}"
    return load_source(source, seed=seed)


def pressure_test(seed: int) -> Yardstick:
    """Return the largest load that a fixed fleet holds, and what its signals then say."""
    spec = service(SPLIT, least=SPLIT, slo={})
    rate = 1.0
    last = light = trial(spec, rate, seed)
    while (tested := trial(spec, rate * GROWTH, seed)).share >= HELD:
        rate, last = rate * GROWTH, tested
    if light.share < HELD:
        raise RuntimeError("not even one request a second is held")
    return Yardstick(rate, readings(last.result), light.share)


class Trial(NamedTuple):
    """A steady load on a fixed fleet, and the share of its requests that were inside the SLO."""

    share: float
    result: ServiceResult


def trial(spec: ServiceSpec, rate: float, seed: int) -> Trial:
    """Play ten minutes of one rate on ``SPLIT`` instances of each role."""
    result, seconds = run(spec, steady(rate, 10, seed), SPLIT, seed)
    outcomes = result.outcomes
    return Trial(float(outcomes.met[:seconds].sum() / outcomes.arrived[:seconds].sum()), result)


def readings(result: ServiceResult) -> dict[str, float]:
    """Return what one instance's signals said; latencies are means in seconds."""
    outcomes = result.outcomes
    found = {
        "ttft": float(outcomes.ttft_sum.sum() / outcomes.first_tokens.sum()),
        "tbt": float(outcomes.tbt_sum.sum() / outcomes.finished.sum()),
    }
    for role in (Role.PREFILL, Role.DECODE):
        usage, name = result.usage[role], role.value
        found[f"{name}_tps"] = float(result.signals[f"{name}_tps"][2:].mean()) / SPLIT
        found[f"{name}_gpu_util"] = usage.gpu_util_mean or 0.0
        found[f"{name}_sm_activity"] = usage.sm_activity_mean or 0.0
    return found
