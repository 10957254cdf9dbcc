"""``python -m benchmarks.agent``: what an agent costs its host, beside prometheus-node-exporter.

Real processes: a coordinator; agents that sample once a second 8 GPUs (a stub of the driver), 8 NICs
(a tree of files) and 4 engines' metrics; node-exporter, scraped once a second. All at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.agent import day, table
from benchmarks.agent.host import DRESSES, FULL, BenchError
from benchmarks.agent.run import Plan, Result, measure
from heteroscale_workbench.cluster.processes import ProcessError
from heteroscale_workbench.nvml_stub import BuildError

WARM_S = 130.0
"""An agent keeps 120 s of history; before that its memory is not full."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=__doc__)
    add = result.add_argument
    add("--seconds", type=float, default=60.0, help="the window")
    add("--warm", type=float, default=WARM_S, help="seconds before it; histories fill in 120")
    add("--only-full", action="store_true", help="one agent, without what costs what")
    add("--day", action="store_true", help="instead: a day in virtual time, to see what grows")
    add("--quick", action="store_true", help="a few seconds: does it work at all")
    add("--json", type=Path, metavar="FILE", help="write everything there too")
    return result


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Return what the command line asks for."""
    dresses = (FULL,) if arguments.only_full else DRESSES
    if arguments.quick:
        return Plan(warm=15.0, seconds=5.0, dresses=dresses)
    return Plan(arguments.warm, arguments.seconds, dresses)


def _write(path: Path, plan: Plan, result: Result) -> None:
    told = {
        "plan": asdict(plan),
        "figures": [one.as_dict() for one in result.figures],
        "ratios": table.ratios(result.figures),
        "goals": [asdict(goal) for goal in table.goals(result.figures)],
        "troubles": result.troubles,
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _day(file: Path | None) -> int:
    """Live a day and say what has grown since its second hour."""
    print(day.HEAD, flush=True)
    marks = day.live(24, say=lambda mark: print(mark, flush=True))
    grown = marks[-1].blocks / marks[1].blocks - 1
    met = grown <= day.GROWTH_GOAL
    verdict = "met   " if met else "MISSED"
    print(f"\n{verdict}  memory blocks, hour 2 to 24: {grown:+.2%} (goal ≤ {day.GROWTH_GOAL:.0%})")
    if file:
        told = {"marks": [asdict(mark) for mark in marks], "grown": grown, "met": met}
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when the figures can be used, whatever they say."""
    arguments = parser().parse_args(argv)
    if arguments.day:
        return _day(arguments.json)
    plan, began = plan_of(arguments), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    try:
        result = asyncio.run(measure(plan, say))
    except (BenchError, ProcessError, BuildError) as error:
        print(f"nothing measured: {error}", file=sys.stderr)
        return 1
    print(table.text(result.figures), flush=True)
    if arguments.json:
        _write(arguments.json, plan, result)
    for trouble in result.troubles:
        print(f"not to be used: {trouble}", file=sys.stderr)
    return 1 if result.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
