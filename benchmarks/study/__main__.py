"""``python -m benchmarks.study``: one run for each signal, and how its GPU count follows the load."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.study.ground import pressure_test
from benchmarks.study.runs import Cut, daily, followed
from benchmarks.study.signals import PAPER
from benchmarks.study.table import head, row


def main(argv: Sequence[str]) -> int:
    """Play every signal. Returns the exit code."""
    options = _parser().parse_args(argv)
    tested = pressure_test(options.seed)
    cut = Cut(options.begin, options.hours, options.day)
    load = daily(tested, options.instances, cut, options.seed)
    print(head(tested, load), flush=True)
    found = [followed(name, tested, load, options.seed) for name in options.only or PAPER]
    for place, one in enumerate(sorted(found, key=lambda one: -one.correlation), 1):
        print(row(place, one), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    add = result.add_argument
    add("--only", nargs="*", choices=list(PAPER), metavar="SIGNAL", help="these alone")
    add("--instances", type=int, default=12, help="of each role that the peak needs (12)")
    add("--begin", type=float, default=8.0, help="hour of the day (8)")
    add("--hours", type=float, default=8.0, help="hours of the day (8)")
    add("--day", type=float, default=24.0, help="hours in which the 24 of a day are played (24)")
    add("--seed", type=int, default=0)
    return result


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
