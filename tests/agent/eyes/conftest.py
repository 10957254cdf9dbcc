"""What tests of the eyes share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.agent.eyes.rig import HandClock
from tests.agent.metrics_server import MetricsServer, metrics_server


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def servers() -> AsyncIterator[tuple[MetricsServer, MetricsServer]]:
    async with metrics_server() as first, metrics_server() as second:
        yield first, second
