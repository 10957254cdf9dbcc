"""The speed of every size, each in a fresh process, and how it grows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import linear_regression

from benchmarks.placement.keep import ROOT, Found, Kept
from benchmarks.placement.speed import PIECE_MS, Figures

NODES = (100, 300, 1000, 3000, 10_000)
SERVICES = (10, 100, 1000)
QUICK = ((100, 10), (300, 10))
CYCLE_S = 1.0
STEP_MS = 2.0
UPDATE_US = 50.0
VIEW_MIB = 1024.0
NEAR = 1.3
"""Goals that are said to be *about* so much are met up to so many times it."""


def sweep(
    sizes: Sequence[tuple[int, int]], kept: Kept, say: Callable[[str], None]
) -> list[Figures]:
    """Measure every size."""
    found = []
    for nodes, services in sizes:

        def run(nodes: int = nodes, services: int = services) -> Found:
            command = [
                sys.executable,
                "-m",
                "benchmarks.placement.speed",
                f"{nodes}",
                f"{services}",
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
            told: Found = json.loads(done.stdout)
            return told

        had = kept.get(f"speed-{nodes}-{services}", "", run)
        found.append(Figures(**{key: value for key, value in had.items() if key != "stamp"}))
        say(f"speed: {nodes} nodes, {services} services")
    return found


def all_sizes() -> list[tuple[int, int]]:
    """Return the sweep, the small first."""
    return [(nodes, services) for nodes in NODES for services in SERVICES]


def exponent(found: Sequence[Figures], value: Callable[[Figures], float]) -> float | None:
    """Return the power of the number of nodes by which a value grows; None: one size alone.

    A least-squares line through the logarithms, over the sizes with the most services.
    """
    most = max(one.services for one in found)
    points = [(log(one.nodes), log(value(one))) for one in found if one.services == most]
    if len(points) < 2:
        return None
    sizes, values = zip(*points, strict=True)
    return linear_regression(sizes, values).slope


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted and what came out."""

    name: str
    wanted: str
    came: str
    met: bool


def goals(found: Sequence[Figures]) -> list[Goal]:
    """Return the goals at the largest size."""
    last = max(found, key=lambda one: (one.nodes, one.services))
    where = f"{last.nodes:,} nodes, {last.services:,} services"
    said = [
        Goal(
            f"cycle of {last.placed + last.refused:,} requests, {where}",
            f"≤ {CYCLE_S:g} s",
            f"{last.cycle_s:.2f} s",
            last.cycle_s <= CYCLE_S,
        ),
        Goal(
            "one step into a warm view",
            f"about {STEP_MS:g} ms",
            f"{last.step_ms:.2f} ms",
            last.step_ms <= NEAR * STEP_MS,
        ),
        Goal(
            "a node's update",
            f"about {UPDATE_US:g} µs",
            f"{last.update_us:.0f} µs",
            last.update_us <= NEAR * UPDATE_US,
        ),
        Goal(
            "the view's memory",
            f"≤ {VIEW_MIB:g} MiB",
            f"{last.view_mib:.0f} MiB",
            last.view_mib <= VIEW_MIB,
        ),
        Goal(
            f"a cycle's pieces within {PIECE_MS:g} ms",
            "all",
            f"{last.pieces_in_time:.1%}, the longest {last.longest_ms:.1f} ms "
            f"(the collector's longest stop: {last.collector_ms:.1f} ms)",
            last.pieces_in_time == 1,
        ),
    ]
    grown = exponent(found, lambda one: one.cycle_s)
    if grown is not None:
        most = exponent(found, lambda one: one.nodes * log(one.nodes)) or 0.0
        wanted = f"≤ n^{most:.2f}, as n·log n over these sizes"
        said.append(Goal("a cycle's growth", wanted, f"n^{grown:.2f}", grown <= most))
    return said
