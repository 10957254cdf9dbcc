"""What tests of the link share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.agent.link_twins import (
    Coordinator,
)


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    async with Coordinator().serving() as one:
        yield one
