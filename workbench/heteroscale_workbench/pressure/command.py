"""``heteroscale profile``: the pressure test, from the command line to the service file."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from heteroscale.documents import DocumentError
from heteroscale.words import Role
from heteroscale_simulator.traffic.traces import TraceError
from heteroscale_workbench.pressure import simulated, telling
from heteroscale_workbench.pressure.band import Band, Capacity, band_of
from heteroscale_workbench.pressure.case import Case
from heteroscale_workbench.pressure.document import Found, write_found
from heteroscale_workbench.pressure.finding import (
    Finding,
    limit_alone,
    pressure_test,
    target_of,
)
from heteroscale_workbench.pressure.lengths import Factors, factors_of, groups_of
from heteroscale_workbench.pressure.options import parser
from heteroscale_workbench.pressure.values import PressureError, Trial

INTERRUPTED = 130
ByType = dict[Role, dict[str, float]]
"""Tokens/s of an instance by role and GPU type; the empty type is any."""


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit code: 2 for what the person can mend, 130 when interrupted."""
    options = parser().parse_args(argv)
    # A path that is broken over two lines can be neither copied nor found.
    console = Console(stderr=True, soft_wrap=True)

    def tell(trial: Trial, held: bool) -> None:
        telling.tell_trial(console, trial, held=held)

    try:
        case = Case.of(options, tell)
        if len(case.journal):
            console.print(f"{len(case.journal)} trials are in the journal already")
        finding, limits, factors = asyncio.run(_test(case))
        telling.show(finding, console)
        over = case.document.spec.policy.tolerance_out
        targets = {
            role: {gpu: target_of(limit, over) for gpu, limit in by_type.items()}
            for role, by_type in limits.items()
        }
        _keep(case, finding, targets, factors, console)
    except (PressureError, DocumentError, TraceError) as error:
        console.print(f"heteroscale profile: {error}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where this one was")
        return INTERRUPTED
    return 0


async def _test(case: Case) -> tuple[Finding, ByType, Factors]:
    async with case.bench() as bench:
        finding = await pressure_test(
            bench,
            case.splits,
            case.options.first_rate or bench.first_rate(case.splits[0]),
            case.goal,
            journal=case.journal,
            tell=case.tell,
        )
    limits = finding.limits_per_instance()
    if case.options.simulated:
        return finding, await _by_type(case, finding), await _factors(case, finding)
    return finding, {role: {"": limit} for role, limit in limits.items()}, {}


async def _by_type(case: Case, finding: Finding) -> ByType:
    """Return each role's limit on every GPU type that it names; a single type needs no more trials."""
    limits, found = finding.limits_per_instance(), ByType()
    for role, first in simulated.preferred(case.document.spec).items():
        others = case.document.spec.roles[role].gpu_types[1:]
        found[role] = {first if others else "": limits[role]}
        for gpu in others:
            found[role][gpu] = await limit_alone(
                case.simulated({role: gpu}),
                role,
                finding.best,
                case.goal,
                journal=case.journal,
                tell=case.tell,
            )
    return found


async def _factors(case: Case, finding: Finding) -> Factors:
    """Return by what the targets differ where prompts are short or long: on the first GPU types."""
    return await factors_of(
        groups_of(case.workload, case.options.seed),
        lambda workload, label: case.simulated({}, workload, label),
        case.workload,
        finding.best,
        case.goal,
        journal=case.journal,
        tell=case.tell,
    )


def _band(case: Case, finding: Finding, factors: Factors) -> Band:
    """Return the band around the best split: of the first GPU types, as the splits were."""
    limits, best = finding.limits_per_instance(), finding.best.counts
    links = case.simulated({}).link_tokens if case.options.simulated else math.inf
    capacity = Capacity(limits[Role.PREFILL], limits[Role.DECODE], links, factors)
    tested = best.prefill / best.decode
    return band_of(case.workload.course, tested, finding.bounds, capacity)


def _keep(
    case: Case, finding: Finding, targets: ByType, factors: Factors, console: Console
) -> None:
    options: argparse.Namespace = case.options
    band = _band(case, finding, factors)
    if options.json:
        data = telling.as_data(finding, targets, factors, band)
        _write_json(options.json, json.dumps(data, indent=2) + "\n")
    console.print(telling.in_words(finding, targets, factors, band, case.goal), highlight=False)
    if options.dry_run:
        console.print("The service file stays as it is (--dry-run).")
        return
    remark = telling.ceiling_in_words(finding.ceiling, case.goal)
    found = Found(_ratio(options, finding, band), targets, factors, remark)
    write_found(options.service, case.name, found)
    console.print(f"Written into {options.service}.", highlight=False)


def _ratio(options: argparse.Namespace, finding: Finding, band: Band) -> str:
    return finding.ratio if options.ratio == "fixed" else band.written


def _write_json(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        raise PressureError(f"--json {path}: {error.strerror}") from error
