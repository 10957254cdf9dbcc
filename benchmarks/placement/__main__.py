"""``python -m benchmarks.placement``: how fast, how near the best, and against plain schedulers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.placement import table
from benchmarks.placement.churn import weeks
from benchmarks.placement.exact import NoSolverError
from benchmarks.placement.keep import Kept
from benchmarks.placement.quality import contests
from benchmarks.placement.sweep import QUICK, all_sizes, sweep

PARTS = ("speed", "quality", "churn")


def main(argv: Sequence[str]) -> int:
    """Measure what was asked for. Returns the exit code: 2 for wrong usage or a missing solver."""
    options = parser().parse_args(argv)
    wanted = options.only.split(",") if options.only else list(PARTS)
    if strange := sorted(set(wanted) - set(PARTS)):
        print(f"no part {strange[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    kept, found = Kept(options.keep), dict[str, Any]()
    try:
        if "speed" in wanted:
            swept = sweep(options.sizes or (QUICK if options.quick else all_sizes()), kept, say)
            found["speed"] = [asdict(one) for one in swept]
            print(table.speed(swept) + "\n", flush=True)
        if "quality" in wanted:
            cases = options.cases or (4 if options.quick else 100)
            made = contests(cases, options.seconds, kept, say, options.seed)
            found["quality"] = [asdict(one) for one in made]
            print(table.quality(made) + "\n", flush=True)
        if "churn" in wanted:
            hours = options.hours or (24 if options.quick else 168)
            lived = weeks(
                options.traces,
                hours=hours,
                small=options.quick,
                kept=kept,
                seed=options.seed,
                say=say,
            )
            found["churn"] = [asdict(one) for one in lived]
            print(table.churn(lived) + "\n", flush=True)
    except NoSolverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    add = result.add_argument
    add("--only", metavar="A,B", help=f"these parts alone, of {', '.join(PARTS)}")
    add(
        "--traces",
        type=Path,
        default=os.environ.get("TRACES") or None,
        metavar="DIR",
        help="folder with an inventory of nodes (default: $TRACES, else a made-up one)",
    )
    add("--quick", action="store_true", help="does it work at all: half a minute")
    add(
        "--sizes",
        type=_sizes,
        metavar="N:S,…",
        help="speed: nodes and services of each size, e.g. 1000:100,10000:1000",
    )
    add("--hours", type=int, default=0, metavar="N", help="churn: how long (168, a week)")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="churn: another population; quality: its first case (0)",
    )
    add("--cases", type=int, default=0, metavar="N", help="quality: cases of each load (100)")
    add("--seconds", type=float, default=3.0, help="quality: the solver's, for each goal of a case")
    add(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep what is measured there; the same command goes on where it was",
    )
    add("--json", type=Path, metavar="FILE", help="everything as JSON")
    return result


def _sizes(text: str) -> list[tuple[int, int]]:
    pairs = [part.split(":") for part in text.split(",")]
    return [(int(nodes), int(services)) for nodes, services in pairs]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
