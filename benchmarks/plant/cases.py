"""The cases, each run in a process of its own: what it takes of one core, and of memory."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.plant.documents import FLEET, SERVICE
from heteroscale.words import Role
from heteroscale_simulator.command import run as simulate
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import PlantSettings, Seat, Slo
from heteroscale_simulator.profiles.catalogue import speeds_for
from heteroscale_simulator.traffic.source import load_source

READ_EVERY = 5
OPERATIONS = 100
"""Array operations a second of the reference, each over all decode engines."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is simulated."""

    hours: float
    rate: float
    """Requests a second."""
    instances: int

    @property
    def prefill(self) -> int:
        """A third of the instances."""
        return max(1, round(self.instances / 3))

    @property
    def decode(self) -> int:
        """The rest."""
        return max(1, self.instances - self.prefill)

    @property
    def seconds(self) -> int:
        """Virtual seconds."""
        return max(60, round(self.hours * 3600))


@dataclass(frozen=True, slots=True)
class Figures:
    """One case's cost."""

    case: str
    seconds: float
    """CPU seconds, user and system, of the simulation alone: no reading of traffic, no oracle."""
    wall: float
    memory_mib: float
    """The process's highest resident set, traffic and libraries in it."""
    instances: float
    """Mean number of them."""
    attainment: float | None
    """Share of requests that met the SLO: tells whether the load is one that such a fleet carries."""


def run(case: str, size: Size) -> Figures:
    """Measure a case in this process."""
    return CASES[case](case, size)


def _reference(case: str, size: Size) -> Figures:
    """Add arrays as long as decode is wide, a fixed number of times a virtual second."""
    values, more = np.ones(size.decode), np.full(size.decode, 1e-9)
    began, wall = time.process_time(), time.perf_counter()
    for _ in range(size.seconds):
        for _ in range(OPERATIONS):
            values = values + more
    return _figures(case, (began, wall), float(size.instances), None)


def _plant(case: str, size: Size) -> Figures:
    """Run engines that stay, and read their metrics."""
    load = load_source(_traffic("steady", size, size.rate), 1.0, 1, 8)
    plant = FlowPlant(speeds_for(None, ["H100"], 1), PlantSettings(Slo(1.0, 0.05)), size.seconds)
    for role, count in ((Role.PREFILL, size.prefill), (Role.DECODE, size.decode)):
        for number in range(count):
            name = f"{role}-{number}"
            plant.join(Seat(name, role, "H100", 1, {"s1": f"s1-{number % 10}"}))
            plant.open(name)
    began, wall = time.process_time(), time.perf_counter()
    for second in range(load.seconds):
        plant.advance(load.requests[second], load.input_tokens[second], load.output_tokens[second])
        if second % READ_EVERY == 0:
            plant.readings()
    outcomes = plant.outcomes()
    met = float(outcomes.met.sum() / outcomes.arrived.sum())
    return _figures(case, (began, wall), float(size.instances), met)


def _world(case: str, size: Size) -> Figures:
    """Run the whole: fleet, reports, decisions; traffic swings by a third around the same mean."""
    with tempfile.TemporaryDirectory() as folder:
        service, fleet, out = (Path(folder) / name for name in ("s.yaml", "f.yaml", "out.json"))
        service.write_text(SERVICE.format(most=3 * size.instances), "utf-8")
        fleet.write_text(FLEET.format(nodes=-(-3 * size.instances // 8)), "utf-8")
        trace = _traffic("diurnal", size, size.rate * 4 / 3, "&trough=0.5")
        line = ["--service", str(service), "--fleet", str(fleet), "--trace", trace]
        began, wall = time.process_time(), time.perf_counter()
        simulate([*line, "--policy", case, "--json", str(out), "--quiet"])
        told = json.loads(out.read_text("utf-8"))["runs"][0]
    whole = _figures(case, (began, wall), told["gpu_hours"] / size.seconds * 3600, None)
    # The figures' own clock leaves the oracle and the reading out; all of it ran on one core.
    share = told["wall_s"] / whole.wall
    return Figures(
        case,
        whole.seconds * share,
        told["wall_s"],
        whole.memory_mib,
        whole.instances,
        told["joint_attainment"],
    )


def _traffic(shape: str, size: Size, peak: float, more: str = "") -> str:
    lengths = "input=750&output=440"
    return f"gen:{shape}?hours={size.seconds / 3600}&peak={peak}&{lengths}{more}"


def _figures(
    case: str, began: tuple[float, float], instances: float, attainment: float | None
) -> Figures:
    cpu, wall = began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Figures(
        case,
        time.process_time() - cpu,
        time.perf_counter() - wall,
        memory,
        instances,
        attainment,
    )


CASES: Mapping[str, Callable[[str, Size], Figures]] = {
    "reference": _reference,
    "plant": _plant,
    "hpa": _world,
    "joint": _world,
}


def as_json(figures: Figures) -> str:
    """Return one line."""
    return json.dumps(asdict(figures))
