"""``python -m benchmarks.policies``: every policy on every traffic, and what falls short of the goal."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.policies.before import REVISION
from benchmarks.policies.cases import CASES, FLEET, present
from benchmarks.policies.contest import contest
from benchmarks.policies.play import Ground
from benchmarks.policies.table import show, summary
from benchmarks.policies.variants import DEFAULT, variants

QUICK = "joint,before,hpa"


def main(argv: Sequence[str]) -> int:
    """Play all traffic that is there. Returns the exit code: 1 when a run broke, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    traces = options.traces or os.environ.get("TRACES") or None
    folder = Path(traces) if traces else None
    cases = present(folder, options.only, quick=options.quick, duration=options.duration)
    if not cases:
        known = ", ".join(case.name for case in CASES)
        print(
            f"none of these can be played; known: {known} (recordings need --traces)",
            file=sys.stderr,
        )
        return 2
    try:
        wanted = variants(options.policies or (QUICK if options.quick else DEFAULT))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        (place / "fleet.yaml").write_text(FLEET, "utf-8")
        instances = options.instances or (6.0 if options.quick else 30.0)
        ground = Ground(place, folder, instances, options.before, options.quick)
        found = []
        for one in contest(cases, ground, wanted, options.seeds, options.jobs):
            print(show(one), flush=True)
            found.append(one)
    print(summary(found))
    if options.json:
        options.json.write_text(
            json.dumps([asdict(one) for one in found], indent=2) + "\n", "utf-8"
        )
    return 0 if len(found) == len(cases) else 1


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.policies", description=__doc__)
    add = result.add_argument
    add(
        "--traces",
        type=Path,
        metavar="DIR",
        help="folder of recordings (default: $TRACES, else none)",
    )
    add("--only", nargs="*", default=[], metavar="NAME", help="these alone")
    add("--policies", metavar="A,B", help=f"default: {DEFAULT}")
    add("--before", default=REVISION, metavar="REV", help=f"what `before` is (default: {REVISION})")
    add("--instances", type=float, help="the free oracle's mean, at least (30)")
    add("--duration", default="", help="play only so much of each, e.g. 2h")
    add(
        "--seeds", type=_seeds, default=[0], metavar="0,1", help="means are over these (default: 0)"
    )
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at a time")
    add(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep every run there; finished ones are not run again",
    )
    add("--json", type=Path, metavar="FILE", help="everything as JSON")
    add("--quick", action="store_true", help="does it work at all: two short generated ones")
    return result


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
