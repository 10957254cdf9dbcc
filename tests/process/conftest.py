"""Clusters of real processes for tests, with their logs told when a test fails."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import psutil
import pytest

from heteroscale_workbench.cluster.local import Layout, two_minipods
from tests.process import fleet
from tests.process.stage import RULES, Stage


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """What a stage is built from; a module with other wishes has a fixture of its own."""
    return fleet.layout(
        tmp_path, options=("--kv-lease", "8"), hosts=two_minipods(3, 2), rules=RULES
    )


@pytest.fixture
async def stage(layout: Layout) -> AsyncIterator[Stage]:
    """Start the cluster; stop it whatever happens, and leave no process behind."""
    async with fleet.fleet(layout) as made:
        yield Stage(made.cluster, made.operator)
    assert left_of(layout.directory) == []


def left_of(directory: Path) -> list[str]:
    """Return the command lines of processes that know the directory."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(directory) in " ".join(process.cmdline()):
                left.append(" ".join(process.cmdline()))
    return left


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of every part's log to the report of a failed test."""
    report = yield
    if report.failed and call.when == "call":
        for made in getattr(item, "funcargs", {}).values():
            if isinstance(made, fleet.Fleet):
                report.sections.append(("logs", made.tails()))
    return report
