"""Tests against a real Prometheus skip, with the reason, where none is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder: it starts real programs, and needs two that may be missing."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.process)
            if missing:
                reason = f"no {' and no '.join(missing)}: apt-get install prometheus"
                item.add_marker(pytest.mark.skip(reason=reason))
