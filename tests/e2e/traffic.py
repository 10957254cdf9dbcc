"""The traffic that real engines bear: paced by a level that may change, or kept in flight."""

from __future__ import annotations

import asyncio
from itertools import repeat

from heteroscale_workbench.demo.traffic import Asked, Pacer
from heteroscale_workbench.load import LoadOptions, LoadReport, LoadRun

PACE = 0.1


class Traffic:
    """Equal requests at even distances, at a ``level`` (output tokens per second) that may change.

    ``patience``: seconds any one request may take.
    """

    def __init__(self, url: str, model: str, prompt: int, output: int, patience: float) -> None:
        self.level = 0.0
        options = LoadOptions(
            model=model, timeout=patience, connect_timeout=patience, exact_events=False
        )
        self.run = LoadRun(url, options=options, live=True)
        self._pacer = Pacer(repeat(Asked(1.0, prompt, output)), output)
        self._kept = (0, prompt, output)
        self._pacing = asyncio.create_task(self._pace())
        self._sending = asyncio.create_task(self.run.run())

    @property
    def in_flight(self) -> int:
        """How many requests have been asked for and have not ended."""
        now = self.run.snapshot()
        return now.planned - now.sent + now.in_flight

    def keep(self, number: int, prompt: int, output: int) -> None:
        """Have so many requests in flight from now on: one that ends is followed by another."""
        self._kept = (number, prompt, output)

    def let_go(self) -> None:
        """Follow no request by another; those in flight go on."""
        self._kept = (0, 0, 0)

    def require(self) -> None:
        """Assert that no request has failed so far."""
        failures = self.run.snapshot().failures
        assert not failures, _told(self.run.report())

    async def end(self) -> LoadReport:
        """Send nothing more, wait for every answer, and report."""
        self._pacing.cancel()
        self.run.stop()
        return await self._sending

    async def drop(self) -> None:
        """End at once, whatever is in flight."""
        for task in (self._pacing, self._sending):
            task.cancel()
        await asyncio.gather(self._pacing, self._sending, return_exceptions=True)

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(PACE)
            now = loop.time()
            for asked in self._pacer.advance(now - last, self.level):
                self.run.offer(asked.prompt, asked.output)
            number, prompt, output = self._kept
            for _ in range(number - self.in_flight):
                self.run.offer(prompt, output)
            last = now


def clean(report: LoadReport) -> None:
    """Assert that every request had its exact tokens, a finish reason and ``[DONE]``."""
    assert report.requests > 0
    assert (report.passed, report.failed_requests) == (report.requests, 0), _told(report)
    assert report.clean, _told(report)


def _told(report: LoadReport) -> list[str]:
    return [f"{one.at:.1f} s {one.kind.value}: {one.reason}" for one in report.failures]
