"""What tests of the turn share."""

from __future__ import annotations

import pytest

from heteroscale.words import Role
from heteroscale_coordinator.core.events import (
    ApplyService,
)
from tests.core.turn.rig import SPEC
from tests.core.world import World


@pytest.fixture
def world() -> World:
    """Four agents of four GPUs, and one service that is up at its least."""
    world = World()
    for index in range(4):
        world.join(f"n{index}", {"s1": f"pod-{index // 2}"}, ["H20"] * 4)
    world.send(ApplyService("apply", "chat", SPEC, ""))
    world.run(60)
    assert world.serving(Role.PREFILL) == 1
    assert world.serving(Role.DECODE) == 2
    return world
