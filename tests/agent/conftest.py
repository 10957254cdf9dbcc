"""What the agent's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heteroscale_workbench.nvml_stub import build
from tests.agent.body_twins import World


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The NVML stub, compiled once."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A body on twins, started."""
    made = World(tmp_path)
    await made.body.start()
    yield made
    await made.body.close()
