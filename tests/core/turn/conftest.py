"""What tests of the turn share."""

from __future__ import annotations

import pytest

from tests.core.turn.rig import up
from tests.core.world import World


@pytest.fixture
def world() -> World:
    """Four agents of four GPUs, and one service that is up at its least."""
    return up(4, pods=2)
