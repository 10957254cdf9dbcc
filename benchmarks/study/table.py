"""The study as a table."""

from __future__ import annotations

from benchmarks.study.ground import SPLIT, Yardstick
from benchmarks.study.runs import Followed
from benchmarks.study.signals import PAPER
from heteroscale_simulator.traffic.load import Load

_ORDER = list(PAPER)


def head(tested: Yardstick, load: Load) -> str:
    """Return what was tested and played, and the table's head."""
    rate = load.by_minute("requests")
    readings = ", ".join(f"{name} {value:.4g}" for name, value in tested.readings.items())
    return (
        f"pressure test: {SPLIT} of each role hold {tested.rate:.1f} req/s; one instance then shows "
        f"{readings}\n"
        f"with hardly any load {100 * tested.ceiling:.1f} % hold the SLO: no row can have more\n"
        f"load: {load.seconds / 3600:.1f} h, {rate.min():.1f} to {rate.max():.1f} req/s\n\n"
        "| place | signal | correlation | paper | its place | GPUs | GPU-hours | SLO held | steps |\n"
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|"
    )


def row(place: int, one: Followed) -> str:
    """Return one line of it."""
    return (
        f"| {place} | {one.signal} | {one.correlation:.2f} | {PAPER[one.signal]:.2f} | "
        f"{_ORDER.index(one.signal) + 1} | {one.fewest} to {one.most} | {one.gpu_hours:.0f} | "
        f"{100 * one.held:.1f} % | {one.events} |"
    )
