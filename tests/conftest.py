"""Options and fixtures that every floor of tests shares."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy machine is no defect: nothing here is judged by how long it took.
# And what passed once passes again: HETEROSCALE_DEEP searches anew at each run.
settings.register_profile(
    "house", deadline=None, derandomize=not os.environ.get("HETEROSCALE_DEEP")
)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="record transcripts again")
