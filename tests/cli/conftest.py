"""A listening twin with a fleet, and two ways to type: in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner, Result

from heteroscale_cli.app import app
from tests.cli import fleet
from tests.cli.twin import OperatorTwin, Served

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("proto", "agent", "coordinator", "scheduler_adapters", "advisor", "workbench", "cli")


class Typed(Protocol):
    def __call__(self, *words: str, stdin: str | None = None, **env: str) -> Result: ...


@pytest.fixture
def twin() -> OperatorTwin:
    result = OperatorTwin()
    fleet.fill(result)
    return result


@pytest.fixture
def served(twin: OperatorTwin) -> Iterator[Served]:
    with Served(twin).running() as result:
        yield result


@pytest.fixture
def typed(served: Served) -> Typed:
    """Run a command of this process against the twin."""

    def run(*words: str, stdin: str | None = None, **env: str) -> Result:
        settings = {"HETEROSCALE_COORDINATOR": served.address, "HETEROSCALE_TIMEOUT": "20s"}
        return CliRunner().invoke(app, list(words), input=stdin, env=settings | env)

    return run


def clean_environment(**env: str) -> dict[str, str]:
    """Return an environment that finds the sources and has no setting of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HETEROSCALE", "NO_COLOR"))}
    paths = [str(ROOT / folder) for folder in SOURCES]
    paths += [kept["PYTHONPATH"]] if "PYTHONPATH" in kept else []
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm"} | env


def process(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the real entry point in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "heteroscale_cli", *words],
        input=stdin,
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
