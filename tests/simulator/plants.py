"""A small profile, seats and loads for tests of the plant."""

from __future__ import annotations

import numpy as np

from heteroscale.words import Role
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant import ring as r
from heteroscale_simulator.plant.cohorts import COUNT, OUTPUT
from heteroscale_simulator.plant.port import PlantSettings, Seat, Slo
from heteroscale_simulator.profiles import EngineProfile, parse_profile
from heteroscale_simulator.traffic.load import Floats

PROFILE = """
apiVersion: heteroscale/v1
kind: EngineProfile
metadata: {name: tests}
spec:
  kvBytesPerToken: 100000
  transfer:
    s0: {gigabytesPerSecond: 100, latencyMs: 0}
    s1: {gigabytesPerSecond: 10, latencyMs: 1}
    s2: {gigabytesPerSecond: 5, latencyMs: 2}
    cluster: {gigabytesPerSecond: 1, latencyMs: 5}
  gpus:
    A:
      kvCapacityTokens: 40000
      maxBatch: 32
      maxPrefillTokens: 4000
      prefill: {lengths: [1, 100, 1000, 10000], ms: [10, 15, 100, 1200]}
      decode: {batches: [1, 32], contexts: [100, 2000], stepMs: [[10, 11], [20, 30]]}
    B:
      kvCapacityTokens: 20000
      maxBatch: 32
      maxPrefillTokens: 4000
      prefill: {lengths: [1, 100, 1000, 10000], ms: [20, 30, 200, 2400]}
      decode: {batches: [1, 32], contexts: [100, 2000], stepMs: [[20, 22], [40, 60]]}
"""


def profile() -> EngineProfile:
    """Type A, and B of half its speed and memory."""
    return parse_profile(PROFILE, "tests.yaml")


def seat(name: str, role: Role, gpu_type: str = "A", **domains: str) -> Seat:
    return Seat(name, role, gpu_type, 1, domains)


def plant(
    prefill: int, decode: int, settings: PlantSettings | None = None, seconds: int = 600
) -> FlowPlant:
    """Return a plant of open engines p0 …, d0 … of type A."""
    result = FlowPlant(profile(), settings or PlantSettings(Slo(1.0, 0.05)), seconds)
    for role, count in ((Role.PREFILL, prefill), (Role.DECODE, decode)):
        for at in range(count):
            name = f"{role.value[0]}{at}"
            result.join(seat(name, role))
            result.open(name)
    return result


def run(
    over: FlowPlant, seconds: int, requests: float, prompt: float = 500, output: float = 100
) -> FlowPlant:
    """Let ``requests`` of one class come in every second."""
    n = np.array([requests])
    for _ in range(seconds):
        over.advance(n, n * prompt, n * output)
    return over


def inside(over: FlowPlant) -> tuple[float, float]:
    """Return the requests inside, counted where they are, and the output tokens they will have."""
    found: list[Floats] = [
        row.sums[[COUNT, OUTPUT]].sum(axis=1) * (1 - row.served) for row in over._prefill.backlog
    ]
    found += [
        shift.leaving.reshape(-1, shift.leaving.shape[-1])[:, [COUNT, OUTPUT]].sum(axis=0)
        for shift in over._prefill.shifts
    ]
    found += [
        queued.cohort[:, [COUNT, OUTPUT]].sum(axis=0) * (1 - queued.admitted)
        for queued in over._decode._queue
    ]
    buckets = over._decode.ring.buckets
    found.append(buckets[..., [r.IN_BATCH, r.TOKENS]].sum(axis=(0, 1)))
    requests, tokens = np.sum(found, axis=0)
    return float(requests), float(tokens)
