"""What one run of the command is about: service, workload, goal, journal, and the bench it asks for."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroscale.documents import read_one
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_workbench.load.report import LoadOptions
from heteroscale_workbench.pressure.coordinator import held_by
from heteroscale_workbench.pressure.endpoint import AsItIs, Endpoint, Fleet
from heteroscale_workbench.pressure.finding import splits_of
from heteroscale_workbench.pressure.journal import Journal
from heteroscale_workbench.pressure.search import Tell
from heteroscale_workbench.pressure.simulated import Simulated
from heteroscale_workbench.pressure.values import Bench, Counts, Goal, PressureError
from heteroscale_workbench.pressure.workload import Workload, recorded, stated

WARM_UP, MEASURE = 60.0, 120.0
REQUESTS = 4000
"""Simulated at least where nobody says how long: of few requests the rare long ones are there or not by
chance, and a search by chance finds nothing."""


@dataclass(frozen=True)
class Case:
    """One pressure test, as asked for on the command line."""

    options: argparse.Namespace
    document: ServiceDocument
    workload: Workload
    splits: Sequence[Counts]
    goal: Goal
    journal: Journal
    tell: Tell

    @classmethod
    def of(cls, options: argparse.Namespace, tell: Tell) -> Case:
        """Return what the options ask for.

        Raises:
            PressureError, DocumentError, TraceError: something of it is wrong.

        """
        if options.endpoint and not options.yes_this_is_not_production:
            raise PressureError(
                f"the test overloads {options.endpoint} on purpose, again and again, and people who "
                "use it would suffer. If nobody does, add --yes-this-is-not-production"
            )
        document = _service(options.service)
        workload = _workload(options)
        splits = options.counts or splits_of(options.units)
        if not splits:
            raise PressureError("--units 1 cannot be split: name 2 or more")
        path: Path = options.journal or options.service.with_suffix(".profile.jsonl")
        journal = Journal(path, _what(options, document, workload))
        goal = Goal(options.attainment, options.tolerance)
        return cls(options, document, workload, splits, goal, journal, tell)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.document.metadata.name

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[Bench]:
        """Give the deployment under test."""
        if self.options.simulated:
            yield self.simulated({})
            return
        slo, options = self.document.spec.slo, self.options
        load = LoadOptions(
            model=self._model(),
            exact_events=not options.merged_events,
            ttft_slo=slo.ttft,
            tbt_slo=slo.tbt,
        )
        warm_up, measure = _seconds(options)
        async with self._fleet() as fleet:
            yield Endpoint(
                options.endpoint,
                self.workload,
                load,
                fleet,
                warm_up=warm_up,
                measure=measure,
                seed=options.seed,
            )

    def simulated(
        self, gpus: Mapping[Role, str], workload: Workload | None = None, label: str = ""
    ) -> Simulated:
        """Return the plant with ``gpus`` instead of the types that the service names first.

        Another ``workload`` than the service's own has a ``label``.
        """
        return Simulated(
            self.document.spec,
            workload or self.workload,
            _seconds(self.options),
            gpus=gpus,
            seed=self.options.seed,
            folder=self.options.profiles,
            extend=self.options.extend_profiles,
            requests=_requests(self.options),
            label=label,
        )

    @asynccontextmanager
    async def _fleet(self) -> AsyncIterator[Fleet]:
        options = self.options
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

    def _model(self) -> str:
        model = self.document.spec.model
        name = self.options.model or (model.name if model else "")
        if not name:
            raise PressureError(
                "which model does the endpoint serve? Say --model, or `spec.model.name`"
            )
        return str(name)


def _seconds(options: argparse.Namespace) -> tuple[float, float]:
    return options.warm_up or WARM_UP, options.measure or MEASURE


def _requests(options: argparse.Namespace) -> int:
    return 0 if options.measure else REQUESTS


def _service(path: Path) -> ServiceDocument:
    try:
        document = read_one(path, "Service").parse(ServiceDocument)
    except OSError as error:
        raise PressureError(f"--service {path}: {error.strerror}") from error
    spec = document.spec
    if spec.split:
        raise PressureError(
            f"{path}: spec.roles splits prefill into attention and ffn; a pressure test balances a "
            "prefill in one with decode"
        )
    if Role.PREFILL not in spec.roles:
        raise PressureError(f"{path}: spec.roles has no prefill and decode: nothing to balance")
    if spec.slo.ttft is None or spec.slo.tbt is None:
        raise PressureError(f"{path}: spec.slo needs `ttft` and `tbt`: they are what must hold")
    return document


def _workload(options: argparse.Namespace) -> Workload:
    if options.trace is not None:
        return recorded(options.trace, options.seed)
    if options.input_tokens is None or options.output_tokens is None:
        raise PressureError("name --trace, or --input-tokens and --output-tokens")
    return stated(options.input_tokens, options.output_tokens, options.spread, options.seed)


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
        "seconds": list(_seconds(options)),
        "requests": _requests(options) if options.simulated else 0,
        "seed": options.seed,
    }
