"""A service of two roles, wishes put to it, and loads that come and go."""

from __future__ import annotations

from itertools import count

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core import step as turn
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import (
    Answer,
    ApplyService,
    Event,
    RemoveFromRouters,
    Tick,
)
from heteroscale_coordinator.core.model import CommandState
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import PLAIN
from tests.core.world import World

SPEC = ServiceSpec.model_validate(
    {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
            "decode": {"template": "decode", "min": 2, "max": 8, "target": 1000},
        },
        "ratio": "1:2",
        "policy": PLAIN,
        "gate": {"kind": "sglang-router", "routers": ["http://router:1"]},
    }
)


def up(agents: int, pods: int, *, switches: bool = False) -> World:
    """Return a world of agents of four GPUs in ``pods`` domains, and one service up at its least."""
    world = World()
    world.switches = switches
    for index in range(agents):
        world.join(f"n{index}", {"s1": f"pod-{index * pods // agents}"}, ["H20"] * 4)
    world.send(ApplyService("apply", "chat", SPEC, ""))
    world.run(60)
    assert world.serving(Role.PREFILL) == 1
    assert world.serving(Role.DECODE) == 2
    return world


def answer_to(world: World, wish: Event) -> Answer:
    """Put a wish into a turn of its own and return its answer."""
    changes = turn.step(world.state, [wish], world.now, lambda kind: f"{kind}-test-{id(wish)}")
    world.state.apply(changes)
    for command in changes.commands.values():
        if command is not None and command.state is CommandState.OPEN:
            world._obey(command)
    return next(effect for effect in changes.effects if isinstance(effect, Answer))


def draft(world: World) -> Draft:
    """Return a draft of what a turn would write now."""
    ids = count()
    return Draft(world.state, world.now, lambda kind: f"{kind}-{next(ids)}")


def removals(world: World) -> list[RemoveFromRouters]:
    """Return the removals that the next turn asks for."""
    changes = turn.step(world.state, [Tick()], world.now + 5, lambda kind: f"{kind}-x")
    return [effect for effect in changes.effects if isinstance(effect, RemoveFromRouters)]


def until_withdrawn(world: World) -> World:
    """Let a load come and go, until the soft scale-in that follows."""
    world.traffic.arrivals = 18
    world.run(400)
    world.traffic.arrivals = 1
    for _ in range(200):
        world.run(5)
        if world.instances(Role.DECODE, S.WITHDRAWN):
            return world
    pytest.fail("nothing was withdrawn")
