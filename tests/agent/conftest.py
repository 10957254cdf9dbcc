"""What the agent's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_workbench.nvml_stub import build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The NVML stub, compiled once."""
    return build(tmp_path_factory.mktemp("nvml"))
