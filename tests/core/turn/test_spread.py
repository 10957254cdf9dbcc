"""Spread limits in the turn: who is withdrawn, and who may change sides."""

from __future__ import annotations

import pytest

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.evaluate import view_of
from heteroscale_coordinator.core.events import ApplyService, ScaleService, SwitchInstanceRole
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.policy.build import PLAIN
from tests.core.turn.rig import answer_to, draft
from tests.core.world import World

D, P = Role.DECODE, Role.PREFILL


def spec_of(*, required: bool = True, most: float = 0.5, switches: bool = True) -> ServiceSpec:
    guard = {**PLAIN.get("ratio_guard", {}), "switch_roles": switches}
    return ServiceSpec.model_validate(
        {
            "roles": {
                "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
                "decode": {"template": "decode", "min": 1, "max": 8, "target": 1000},
            },
            "ratio": {"min": 0.1, "max": 4},
            "policy": {**PLAIN, "ratio_guard": guard},
            "placement": {"spread": {"level": "s1", "most": most, "required": required}},
        }
    )


@pytest.fixture
def world() -> World:
    """Two S1 domains of two nodes; 2 prefill and 4 decode, spread evenly."""
    world = World()
    world.switches = True
    for index in range(4):
        world.join(f"n{index}", {"s1": f"pod-{index // 2}", "s2": "big"}, ["H20"] * 4)
    world.send(ApplyService("apply", "chat", spec_of(), ""))
    world.run(60)
    answer_to(world, ScaleService("r", "chat", {P: 2, D: 4}))
    world.run(60)
    assert pods(world, P) == [1, 1]
    assert pods(world, D) == [2, 2]
    return world


def pods(world: World, role: Role) -> list[int]:
    """Return how many of a role serve in each S1."""
    homes = [world.state.instances[one].agent_id for one in world.instances(role, S.IN_SERVICE)]
    return [sum(home in names for home in homes) for names in (("n0", "n1"), ("n2", "n3"))]


def test_an_operators_switch_that_breaks_a_required_limit_is_refused(world: World) -> None:
    # Two of three prefill in one S1 are half, rounded up; of three decode too. A third is not.
    first, *_ = world.instances(D, S.IN_SERVICE)
    assert not answer_to(world, SwitchInstanceRole("r", first, P)).error
    world.run(60)
    home = world.state.instances[first].agent_id
    pod = ("n0", "n1") if home in ("n0", "n1") else ("n2", "n3")
    mate = next(
        one
        for one in world.instances(D, S.IN_SERVICE)
        if world.state.instances[one].agent_id in pod
    )
    error = answer_to(world, SwitchInstanceRole("r", mate, P)).error
    assert "placement.spread is required, and there would be 3 of 4 prefill in big/pod-" in error
    away = next(
        one
        for one in world.instances(D, S.IN_SERVICE)
        if world.state.instances[one].agent_id not in pod
    )
    assert not answer_to(world, SwitchInstanceRole("r", away, P)).error


def test_the_policy_counts_on_a_switch_only_where_the_limit_lets_one(world: World) -> None:
    def switchers() -> set[str]:
        members = view_of(draft(world), world.state.services["chat"]).members
        return {m.instance.instance_id for m in members if m.switchable}

    every = {*world.instances(P, S.IN_SERVICE), *world.instances(D, S.IN_SERVICE)}
    assert switchers() == every
    first, *_ = world.instances(D, S.IN_SERVICE)
    answer_to(world, SwitchInstanceRole("r", first, P))
    world.run(60)
    able = switchers()
    pod = {"n0", "n1"} if world.state.instances[first].agent_id in ("n0", "n1") else {"n2", "n3"}
    homes = {world.state.instances[one].agent_id for one in able & {*world.instances(D)}}
    assert homes
    assert homes.isdisjoint(pod), "three of four prefill would be in one S1"


def test_a_wished_limit_is_in_nobodys_way(world: World) -> None:
    world.send(ApplyService("again", "chat", spec_of(required=False), ""))
    world.run(5)
    for one in world.instances(D, S.IN_SERVICE)[:3]:
        assert not answer_to(world, SwitchInstanceRole("r", one, P)).error
