"""Branches of the core that its tests take, of those alone: a line counts as seen when half of it is.

Reads what ``coverage json`` says on standard input; the one argument is the percentage wanted at least.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_SHOWN = 8
"""Files with the most branches not taken."""


def told(report: dict[str, Any], least: float) -> tuple[str, bool]:
    """Return the share of branches taken and the weakest files, in words; and whether it is enough."""
    files = {name: file["summary"] for name, file in report["files"].items()}
    missing = {name: one["num_branches"] - one["covered_branches"] for name, one in files.items()}
    all_of = sum(one["num_branches"] for one in files.values())
    taken = all_of - sum(missing.values())
    share = 100 * taken / all_of if all_of else 0.0
    weakest = sorted((name for name in missing if missing[name]), key=lambda name: -missing[name])
    lines = [
        f"  {missing[name]:4} of {files[name]['num_branches']:4} not taken  {name}"
        for name in weakest[:_SHOWN]
    ]
    enough = share >= least
    verdict = "enough" if enough else "too few"
    lines.append(
        f"branches taken: {taken} of {all_of}, {share:.1f} % ({verdict}: {least:g} wanted)"
    )
    return "\n".join(lines), enough


def main() -> None:
    """Say it, and end with 1 when it is not enough."""
    text, enough = told(json.load(sys.stdin), float(sys.argv[1]))
    sys.stdout.write(f"{text}\n")
    sys.exit(not enough)


if __name__ == "__main__":
    main()
