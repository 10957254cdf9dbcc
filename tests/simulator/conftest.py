"""Fixtures of the simulator's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulator.typed import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes a file of this test."""

    def put(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return put
