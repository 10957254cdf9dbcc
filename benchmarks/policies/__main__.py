"""``python -m benchmarks.policies``: each policy on each recording, as one table each."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.policies.cases import FLEET, present
from benchmarks.policies.play import Ground, play
from benchmarks.policies.table import show

POLICIES = "joint,hpa,static-peak,oracle-free,oracle-fixed"


def main(argv: Sequence[str]) -> int:
    """Play all traffic that is there. Returns the exit code."""
    options = _parser().parse_args(argv)
    cases = present(options.traces, options.only)
    if not cases:
        print(f"none of these is known, or in {options.traces}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / "fleet.yaml").write_text(FLEET, "utf-8")
        ground = Ground(
            place,
            options.traces,
            options.policies,
            options.instances,
            options.duration,
            options.seed,
        )
        for case in cases:
            print(show(case, play(case, ground)), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.policies", description=__doc__)
    add = result.add_argument
    add("--traces", type=Path, metavar="DIR", help="folder of recordings; without it: generated")
    add("--only", nargs="*", default=[], metavar="NAME", help="these alone")
    add("--instances", type=float, default=30.0, help="the free oracle's mean, at least (30)")
    add("--policies", default=POLICIES, metavar="A,B", help=f"default: {POLICIES}")
    add("--duration", help="play only so much of each, e.g. 6h")
    add("--seed", type=int, default=0)
    add("--keep", type=Path, metavar="DIR", help="keep services, figures and journals there")
    return result


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
