"""Steady traffic around a test's block, in which every request must be answered well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from heteroscale_workbench.load import LoadReport, LoadRun


@asynccontextmanager
async def sent(run: LoadRun) -> AsyncIterator[LoadRun]:
    """Send what ``run`` has while inside; at the end every request must have been answered well."""
    task = asyncio.create_task(run.run())
    try:
        yield run
        run.stop()
        clean(await task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def clean(report: LoadReport) -> None:
    """Assert that every request passed, with no retry."""
    told = [f"{one.at:.1f} s {one.kind.value}: {one.reason}" for one in report.failures]
    assert report.requests > 0
    assert (report.failed_requests, report.retried_requests) == (0, 0), told
    assert report.clean, told
