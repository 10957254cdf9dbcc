"""Options and fixtures that every floor of tests shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

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


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """Children hear ^C, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
