"""``python -m benchmarks.ingest``: the real coordinator beside a bare server, in one run.

Saturation: streams send as fast as flow control lets them; the figure is a ratio of pairs that take
turns. Steady: a report every five seconds; the figures are CPU, memory and delays.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.ingest import table
from benchmarks.ingest.figures import Figures, Ratio, per_cpu_second, per_second
from benchmarks.ingest.run import Plan, Say, measure
from benchmarks.ingest.servers import Cores

INTERVAL_S = 5.0
Pair = tuple[Figures, Figures]
"""Bare, coordinator."""


@dataclass(frozen=True, slots=True)
class Plans:
    """All that is to be measured, and how many pairs of each."""

    flat_out: Plan
    steady: tuple[Plan, ...]
    pairs: int
    steady_pairs: int


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    add = result.add_argument
    add("--streams", default="1000,10000", help="steady sizes; the first is used flat out too")
    add("--seconds", type=float, default=20.0, help="window of a steady run; flat out a half of it")
    add("--pairs", type=int, default=5, help="pairs flat out; 0: none")
    add("--steady-pairs", type=int, default=1, help="pairs of each steady size; 0: none")
    add("--interval", type=float, default=INTERVAL_S, help="seconds between a stream's reports")
    add("--loads", type=int, default=2, help="load processes")
    add("--per-connection", type=int, default=1, help="streams that share a connection")
    add("--quick", action="store_true", help="fifty streams, a few seconds: does it work at all")
    add("--json", type=Path, metavar="FILE", help="write everything there too")
    return result


def plans_of(arguments: argparse.Namespace) -> Plans:
    """Return what the command line asks for."""
    if arguments.quick:
        flat_out = Plan(streams=50, interval=0, warm=0.5, seconds=2.0, loads=1)
        small = Plan(streams=50, interval=0.5, warm=1.0, seconds=2.0, loads=1, probe_every=5)
        return Plans(flat_out, (small,), pairs=1, steady_pairs=1)
    sizes = [int(size) for size in arguments.streams.split(",")]
    interval, seconds = arguments.interval, arguments.seconds
    plan = Plan(
        streams=sizes[0],
        interval=0,
        warm=3.0,
        seconds=seconds / 2,
        loads=arguments.loads,
        per_connection=arguments.per_connection,
    )
    steady = tuple(
        replace(plan, streams=size, interval=interval, warm=2 * interval, seconds=seconds)
        for size in sizes
    )
    return Plans(plan, steady, arguments.pairs, arguments.steady_pairs)


async def _pairs(plan: Plan, count: int, cores: Cores, say: Say) -> list[Pair]:
    """Measure ``count`` pairs; who goes first changes from pair to pair, so that drift cancels."""
    pairs = []
    for order in islice(cycle((("bare", "coordinator"), ("coordinator", "bare"))), count):
        found = {name: await measure(name, plan, cores, say) for name in order}
        pairs.append((found["bare"], found["coordinator"]))
    return pairs


async def bench(plans: Plans, cores: Cores, say: Say) -> dict[str, Any]:
    """Measure everything; return it for JSON."""
    flat_out = await _pairs(plans.flat_out, plans.pairs, cores, say)
    steady = [
        pair for p in plans.steady for pair in await _pairs(p, plans.steady_pairs, cores, say)
    ]
    ratios: dict[str, Ratio] = {}
    if flat_out:
        ratios["reports/s received"] = per_second(flat_out)
        ratios["reports/s folded singly"] = per_second(flat_out, folded=True)
        ratios["reports per CPU second"] = per_cpu_second(flat_out)
    print(table.text(flat_out, steady, ratios), flush=True)
    return {
        "cores": {"server": sorted(cores.server), "load": sorted(cores.load)},
        "plans": asdict(plans),
        "flat_out": [[one.as_dict() for one in pair] for pair in flat_out],
        "steady": [[one.as_dict() for one in pair] for pair in steady],
        "ratios": {name: ratio.as_dict() for name, ratio in ratios.items()},
        "goals": [asdict(goal) for goal in table.goals(flat_out, steady)],
        "troubles": _troubles([*flat_out, *steady]),
    }


def _troubles(pairs: Sequence[Pair]) -> list[str]:
    """Return what makes figures worthless: streams lost on the way."""
    return [
        f"{one.server}, {one.streams} streams: {one.live} lived to the end {list(one.troubles)}"
        for pair in pairs
        for one in pair
        if one.live != one.streams or one.troubles
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when the figures can be used, whatever they say."""
    arguments = parser().parse_args(argv)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    result = asyncio.run(bench(plans_of(arguments), Cores.divide(), say))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for trouble in result["troubles"]:
        print(f"not to be used: {trouble}", file=sys.stderr)
    return 1 if result["troubles"] else 0


if __name__ == "__main__":
    sys.exit(main())
