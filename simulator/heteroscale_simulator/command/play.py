"""Reads what a command line names, runs every policy over it, and measures."""

from __future__ import annotations

from collections.abc import Sequence

from heteroscale_simulator.command.arguments import Options, UsageError
from heteroscale_simulator.command.progress import Watch
from heteroscale_simulator.report.study import Study

KNOWN = ("joint", "hpa", "static-peak", "oracle-free", "oracle-fixed")


def play(asked: Options, command: Sequence[str], told: Watch) -> Study:
    """Run and measure."""
    del command, told
    raise UsageError(f"{', '.join(asked.policies)}: there is no world to run it in yet")
