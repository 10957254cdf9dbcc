"""One recording: the pressure test, a scale that gives enough instances, and every policy's run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.policies.cases import Case

PROBE = 100.0
"""Requests a row of the run that finds the scale: one instance of each role no longer tells."""
BAND = 4.0
"""The free ratio lets prefill be so many times more, or fewer, than the tested one."""
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ground:
    """What all recordings share."""

    place: Path
    """Folder of what is written."""
    traces: Path
    """Folder of recordings."""
    policies: str
    instances: float
    """Mean of the free oracle, at least."""
    duration: str | None
    seed: int


@dataclass(frozen=True)
class Played:
    """The runs of a recording, in the order of the table."""

    runs: list[Figures]
    scale: float
    hours: float
    oracle_instances: float


def play(case: Case, ground: Ground) -> Played:
    """Play a recording under every policy; after the first, once more in a band around the ratio."""
    service = ground.place / f"{case.name}.yaml"
    service.write_text(case.service(), "utf-8")
    lengths = case.lengths(ground.traces)
    _call("profile", "--service", service, "--simulated", *lengths, "--units", 16)
    probe = _simulate(case, ground, service, "static-peak", PROBE)
    scale = float(f"{1.05 * PROBE * ground.instances / _oracle(probe):.2g}")
    fixed = _simulate(case, ground, service, ground.policies, scale)
    banded = service.with_name(f"{case.name}-band.yaml")
    banded.write_text(with_band(service.read_text("utf-8")), "utf-8")
    free = _simulate(case, ground, banded, "joint", scale)
    runs = fixed["runs"]
    (load,) = fixed["trace"].values()
    return Played(
        [runs[0], {**free["runs"][0], "policy": "joint, band"}, *runs[1:]],
        scale,
        load["seconds"] / 3600,
        _oracle(fixed),
    )


def with_band(text: str) -> str:
    """Return a service's text whose fixed ratio has become a band around it."""
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if line.strip().startswith("ratio:"))
    prefill, decode = lines[place].split(":", 1)[1].strip().strip("'\"").split(":")
    ratio = int(prefill) / int(decode)
    lines[place] = f"  ratio: {{min: {ratio / BAND:.4g}, max: {ratio * BAND:.4g}}}"
    return "\n".join(lines) + "\n"


def _simulate(case: Case, ground: Ground, service: Path, policies: str, scale: float) -> Figures:
    out = service.with_name(f"{service.stem}-{scale:g}.json")
    duration = ground.duration or case.duration
    _call(
        *("simulate", "--service", service, "--fleet", ground.place / "fleet.yaml"),
        *("--trace", case.trace(ground.traces), "--rate-scale", scale, "--policy", policies),
        *("--seed", ground.seed, "--quiet", "--json", out),
        *(("--duration", duration) if duration else ()),
    )
    found: Figures = json.loads(out.read_text("utf-8"))
    return found


def _oracle(figures: Figures) -> float:
    """Return the free oracle's mean instances."""
    (oracle,) = figures["oracle"].values()
    return float(oracle["instances_mean"])


def _call(*words: object) -> None:
    command = [sys.executable, "-m", "heteroscale_cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
