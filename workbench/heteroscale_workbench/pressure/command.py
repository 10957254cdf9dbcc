"""``heteroscale profile``: the pressure test, from the command line to the service file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from heteroscale.documents import DocumentError, read_one
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_simulator.traffic.traces import TraceError
from heteroscale_workbench.load.report import LoadOptions
from heteroscale_workbench.pressure import simulated, telling
from heteroscale_workbench.pressure.coordinator import held_by
from heteroscale_workbench.pressure.document import Found, write_found
from heteroscale_workbench.pressure.endpoint import AsItIs, Endpoint, Fleet
from heteroscale_workbench.pressure.finding import (
    Finding,
    pressure_test,
    splits_of,
    target_of,
)
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.options import parser
from heteroscale_workbench.pressure.values import Bench, Goal, PressureError
from heteroscale_workbench.pressure.workload import Workload, recorded, stated

INTERRUPTED = 130
WARM_UP, MEASURE = 60.0, 120.0
Targets = dict[Role, dict[str, float]]


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit code: 2 for what the person can mend, 130 when interrupted."""
    options = parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        finding, targets = asyncio.run(_test(options, console))
        telling.show(finding, console)
        _keep(options, finding, targets, console)
    except (PressureError, DocumentError, TraceError) as error:
        console.print(f"heteroscale profile: {error}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where this one was")
        return INTERRUPTED
    return 0


async def _test(options: argparse.Namespace, console: Console) -> tuple[Finding, Targets]:
    document = _service(options.service)
    workload = _workload(options)
    splits = options.counts or splits_of(options.units)
    if not splits:
        raise PressureError("--units 1 cannot be split: name 2 or more")
    goal = Goal(options.attainment, options.tolerance)
    journal = Journal(_journal_of(options), _what(options, document, workload))
    if len(journal):
        console.print(f"{len(journal)} trials are in the journal already")
    async with _bench(options, document, workload) as bench:
        first = options.first_rate or bench.first_rate(splits[0])
        finding = await pressure_test(
            bench,
            splits,
            first,
            goal,
            journal=journal,
            tell=lambda trial, held: telling.tell_trial(console, trial, held=held),
        )
    return finding, _targets(document, finding)


def _service(path: Path) -> ServiceDocument:
    document = read_one(path, "Service").parse(ServiceDocument)
    spec = document.spec
    if Role.DECODE not in spec.roles:
        raise PressureError(f"{path}: spec.roles has no prefill and decode: nothing to balance")
    if spec.slo.ttft is None or spec.slo.tbt is None:
        raise PressureError(f"{path}: spec.slo needs `ttft` and `tbt`: they are what must hold")
    return document


def _workload(options: argparse.Namespace) -> Workload:
    if options.trace is not None:
        return recorded(options.trace)
    if options.input_tokens is None or options.output_tokens is None:
        raise PressureError("name --trace, or --input-tokens and --output-tokens")
    return stated(options.input_tokens, options.output_tokens, options.spread, options.seed)


def _journal_of(options: argparse.Namespace) -> Path:
    path: Path = options.service
    return options.journal or path.with_name(f"{path.stem}.profile.jsonl")


def _what(
    options: argparse.Namespace, document: ServiceDocument, workload: Workload
) -> dict[str, Any]:
    """Return what makes trials comparable: the journal's first line."""
    spec = document.spec
    return {
        "service": document.metadata.name,
        "model": spec.model.document() if spec.model else None,
        "gpuTypes": {role.value: list(one.gpu_types) for role, one in spec.roles.items()},
        "gpus": {role.value: one.gpus * one.ranks for role, one in spec.roles.items()},
        "slo": {"ttft": spec.slo.ttft, "tbt": spec.slo.tbt},
        "workload": workload.name,
        "where": options.endpoint or f"simulated, {options.profiles or 'catalogue'}",
        "seconds": [options.warm_up or WARM_UP, options.measure or MEASURE],
        "seed": options.seed,
    }


# ---- benches -----------------------------------------------------------------------------------


@asynccontextmanager
async def _bench(
    options: argparse.Namespace, document: ServiceDocument, workload: Workload
) -> AsyncIterator[Bench]:
    seconds = (options.warm_up or WARM_UP, options.measure or MEASURE)
    if options.simulated:
        yield simulated.Simulated(
            document.spec,
            workload,
            seconds,
            seed=options.seed,
            folder=options.profiles,
            extend=options.extend_profiles,
        )
        return
    async with _fleet(options) as fleet:
        slo = document.spec.slo
        load = LoadOptions(
            model=_model_of(options, document),
            exact_events=not options.merged_events,
            ttft_slo=slo.ttft,
            tbt_slo=slo.tbt,
        )
        warm_up, measure = seconds
        yield Endpoint(
            options.endpoint,
            workload,
            load,
            fleet,
            warm_up=warm_up,
            measure=measure,
            seed=options.seed,
        )


@asynccontextmanager
async def _fleet(options: argparse.Namespace) -> AsyncIterator[Fleet]:
    if not options.yes_this_is_not_production:
        raise PressureError(
            f"the test overloads {options.endpoint} on purpose, again and again, and people who use it "
            "would suffer. If nobody does, add --yes-this-is-not-production"
        )
    if options.coordinator:
        text = options.service.read_text("utf-8")
        async with held_by(options.coordinator, text, options.patience) as held:
            yield held
        return
    if not options.counts or len(options.counts) > 1:
        raise PressureError(
            "without --coordinator nobody can change the deployment: say its --counts P,D, once"
        )
    yield AsItIs(options.counts[0])


def _model_of(options: argparse.Namespace, document: ServiceDocument) -> str:
    name = options.model or (document.spec.model.name if document.spec.model else "")
    if not name:
        raise PressureError(
            "which model does the endpoint serve? Say --model, or `spec.model.name`"
        )
    return str(name)


# ---- what follows ------------------------------------------------------------------------------


def _targets(document: ServiceDocument, finding: Finding) -> Targets:
    """Return the target of each role: for every GPU type it names first that was tested."""
    over = document.spec.policy.tolerance_out
    return {
        role: {"": target_of(limit, over)} for role, limit in finding.limits_per_instance().items()
    }


def _keep(
    options: argparse.Namespace, finding: Finding, targets: Targets, console: Console
) -> None:
    if options.json:
        text = json.dumps(telling.as_data(finding, targets), indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text, "utf-8")
    found = Found(finding.ratio, targets)
    told = ", ".join(f"{role} target {values['']:,.0f}" for role, values in targets.items())
    console.print(f"Best ratio {finding.ratio}; {told} tok/s an instance.", highlight=False)
    if options.dry_run:
        console.print("Nothing was written (--dry-run).")
        return
    name = _service(options.service).metadata.name
    write_found(options.service, name, found)
    console.print(f"Written into {options.service}.", highlight=False)
