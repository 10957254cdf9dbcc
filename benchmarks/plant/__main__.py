"""``python -m benchmarks.plant``: seconds of one core for a fleet's day in virtual time."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.plant.cases import CASES, Figures, Size, as_json, run

GOAL_S = 60.0
DAY_S = 86_400.0
"""CPU seconds for a day at the default size, plant and readings."""
# One core is what is measured: libraries must not take more behind its back.
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.plant", description=__doc__)
    add = result.add_argument
    add("--hours", type=float, default=24.0, help="virtual hours (24)")
    add("--rate", type=float, default=2000.0, help="mean requests a second (2000)")
    add("--instances", type=int, default=200, help="a third of them prefill (200)")
    add("--cases", default=",".join(CASES), help="which: %(default)s")
    add("--times", type=int, default=1, help="runs of each case, in turns; the best one counts")
    add("--quick", action="store_true", help="a quarter of an hour: does it work at all")
    add("--json", type=Path, metavar="FILE", help="write everything there too")
    add("--only", choices=list(CASES), help=argparse.SUPPRESS)
    return result


def measure(case: str, size: Size) -> Figures:
    """Run a case in a process of its own, so that its memory is its own."""
    line = [sys.executable, "-m", "benchmarks.plant", "--only", case]
    line += ["--hours", str(size.hours), "--rate", str(size.rate)]
    line += ["--instances", str(size.instances)]
    done = subprocess.run(
        line, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    )
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def table(found: Sequence[Figures], size: Size) -> str:
    """Return the figures as a person reads them."""
    reference = next((one.seconds for one in found if one.case == "reference"), None)
    fixed = f"{size.prefill} prefill + {size.decode} decode instances where they are fixed"
    widths = {"CPU s": 8, "wall s": 8, "a day, CPU s": 13, "× real time": 12, "÷ reference": 12}
    widths |= {"RSS MiB": 8, "instances": 10, "met": 7}
    lines = [
        f"{size.hours:g} h at {size.rate:g} requests/s, {fixed}",
        f"{'case':<10} " + " ".join(f"{name:>{wide}}" for name, wide in widths.items()),
    ]
    for one in found:
        day = one.seconds * DAY_S / size.seconds
        beside = "-" if reference is None else f"{one.seconds / reference:.1f}"
        met = "-" if one.attainment is None else f"{one.attainment:.3f}"
        lines.append(
            f"{one.case:<10} {one.seconds:>8.1f} {one.wall:>8.1f} {day:>13.1f} "
            f"{size.seconds / one.seconds:>12,.0f} {beside:>12} {one.memory_mib:>8.0f} "
            f"{one.instances:>10.0f} {met:>7}"
        )
    return "\n".join(lines)


def goal(found: Sequence[Figures], size: Size) -> str:
    """Return whether a day of the plant is within the goal."""
    plant = next((one for one in found if one.case == "plant"), None)
    if plant is None:
        return ""
    day = plant.seconds * DAY_S / size.seconds
    word = "met   " if day <= GOAL_S else "MISSED"
    return f"{word}  a day of the plant, CPU s: {day:.1f} (goal ≤ {GOAL_S:.0f} at the default size)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when there are figures, whatever they say."""
    asked = parser().parse_args(argv)
    size = Size(0.25 if asked.quick else asked.hours, asked.rate, asked.instances)
    if asked.only:
        print(as_json(run(asked.only, size)))
        return 0
    names = asked.cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        print(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    runs: list[Figures] = []
    for turn in range(asked.times):
        for name in names:
            runs.append(measure(name, size))
            print(f"{name} {turn + 1}/{asked.times}: {runs[-1].seconds:.1f} s of CPU", flush=True)
    best = [min((r for r in runs if r.case == name), key=lambda r: r.seconds) for name in names]
    print("\n" + table(best, size))
    print(goal(best, size))
    if asked.json:
        told = {"size": asdict(size), "best": [asdict(b) for b in best]}
        told["runs"] = [asdict(one) for one in runs]
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
