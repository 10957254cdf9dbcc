"""A real deployment under test: requests to its router, instances held by its coordinator."""

from __future__ import annotations

import asyncio
from typing import Protocol

from heteroscale_workbench.load.report import LoadOptions, LoadReport
from heteroscale_workbench.load.run import LoadRun
from heteroscale_workbench.pressure.values import Counts, PressureError, Trial
from heteroscale_workbench.pressure.workload import Workload

FEWEST = 5
"""Requests in the measured seconds from which the share that can be met is taken."""


class Fleet(Protocol):
    """Who sees to it that exactly the asked instances are in service."""

    async def hold(self, counts: Counts) -> None:
        """Return when they are. PressureError: they cannot be."""


class AsItIs:
    """Nobody: the deployment has the counts that the person says it has."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    async def hold(self, counts: Counts) -> None:
        """Refuse any others."""
        if counts != self._counts:
            raise PressureError(
                f"{counts} asked, but nobody can make it so: name a --coordinator, or test the "
                f"{self._counts} that is there"
            )


class Endpoint:
    """A bench over an OpenAI completions API."""

    def __init__(
        self,
        url: str,
        workload: Workload,
        options: LoadOptions,
        fleet: Fleet,
        *,
        warm_up: float,
        measure: float,
        seed: int,
    ) -> None:
        self._url, self._workload, self._options, self._fleet = url, workload, options, fleet
        self._warm_up, self._measure, self._seed = warm_up, measure, seed

    @property
    def label(self) -> str:
        """Nothing: there is one deployment."""
        return ""

    def first_rate(self, counts: Counts) -> float:
        """Return a gentle beginning: half a request/s for each prefill."""
        return counts.prefill / 2

    def light_rate(self, counts: Counts) -> float:
        """Return a quarter of the beginning, or what gives a handful of requests to measure."""
        return max(self.first_rate(counts) / 4, FEWEST / self._measure)

    async def stand(self, counts: Counts) -> None:
        """Have these in service."""
        await self._fleet.hold(counts)

    async def load(self, counts: Counts, rate: float) -> Trial:
        """Warm up, then measure, at one load without a pause between; then wait until all is answered."""
        arrivals = self._workload.arrivals(rate, self._warm_up + self._measure, self._seed)
        warming = [one for one in arrivals if one.at < self._warm_up]
        measured = arrivals[len(warming) :]
        if not measured:
            raise PressureError(
                f"{rate:g} requests/s for {self._measure:g} s is no request at all: --measure longer"
            )
        runs = [LoadRun(self._url, part, self._options) for part in (warming, measured)]
        _, report = await asyncio.gather(*(run.run() for run in runs))
        _sound(report)
        return Trial(
            counts=counts,
            rate=rate,
            attainment=report.goodput_requests / report.requests,
            prefill_tps=sum(one.input_tokens for one in measured) / self._measure,
            decode_tps=sum(one.output_tokens for one in measured) / self._measure,
            ttft=report.ttft.mean,
            tbt=report.tbt.mean,
        )


def _sound(report: LoadReport) -> None:
    """Refuse a trial that says nothing about the deployment."""
    if report.local_errors:
        raise PressureError(
            f"{report.local_errors} requests failed here: {report.failures[0].reason}"
        )
    if not report.passed:
        reason = report.failures[0].reason if report.failures else "nobody answered"
        raise PressureError(f"none of {report.requests} requests was answered: {reason}")
