"""Healing in the turn: in quiet alone, inside the bounds, one at a time; and how a move ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from heteroscale.taints import parse_taint
from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.devices import GpuSample
from heteroscale_coordinator.core.events import (
    ApplyService,
    InventoryLearned,
    PauseService,
    ScaleService,
)
from heteroscale_coordinator.core.memory.mend import MendMemory
from heteroscale_coordinator.core.model import Action, Decision, Instance, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.turn.rig import SPEC, answer_to, up
from tests.core.world import World

PAUSE = 600.0


def edited(**changes: object) -> ServiceSpec:
    return ServiceSpec.model_validate({**SPEC.model_dump(by_alias=True), **changes})


def quiet(spec: ServiceSpec = SPEC) -> World:
    """Return a world whose one service is at its least, idle, for as long as a pause."""
    world = up(4, pods=2)
    world.traffic.arrivals = 0.2
    world.send(ApplyService("apply", "chat", spec, ""))
    world.run(PAUSE - 60)
    world.decisions.clear()
    return world


def sicken(world: World, role: Role = Role.DECODE) -> Instance:
    """Let a GPU under an instance be sick, and return the instance."""
    one = world.state.instances[world.instances(role, S.IN_SERVICE)[0]]
    (index,) = one.ranks[0].gpu_indices
    world.agents[one.agent_id].sick[index] = GpuSample(ecc_uncorrected=1)
    return one


def moves(world: World) -> list[Decision]:
    return [d for d in world.decisions if d.action is Action.REPAIR and d.bound_by == "placement"]


def move_of(world: World) -> MendMemory:
    memory = world.state.services["chat"].memory.mend
    assert memory is not None
    return memory


def told(world: World) -> str:
    return world.decisions[-1].inputs.get("repair", "")


def test_another_comes_first_and_then_the_one_on_sick_hardware_leaves() -> None:
    world = quiet()
    old = sicken(world)
    world.run(PAUSE + 400)
    (begun,) = moves(world)
    assert begun.delta == {Role.DECODE: 1}
    assert begun.inputs["leaves"] == old.instance_id
    (new,) = begun.instance_ids
    assert world.state.instances[new].state is S.IN_SERVICE
    assert world.state.instances[old.instance_id].state is S.TERMINATED
    orders = [c.verb for c in world.commands if c.instance_id in (new, old.instance_id)]
    assert orders.index(Verb.LAUNCH) < orders.index(Verb.WITHDRAW) < orders.index(Verb.DRAIN)
    assert move_of(world).leaves == ""
    assert world.serving(Role.DECODE) == 2


def test_one_at_a_time_and_each_with_its_pause() -> None:
    world = quiet()
    sicken(world)
    sicken(world, Role.PREFILL)
    world.run(3 * PAUSE)
    first, second = moves(world)
    assert second.at - first.at > PAUSE


@pytest.mark.parametrize(
    "changes",
    [
        {"placement": {"repair": {"enabled": False}}},
        {"advisory": True},
        {"placement": {"repair": {"pause": "1h"}}},
    ],
)
def test_nothing_moves_where_it_is_switched_off_or_only_watched(
    changes: Mapping[str, object],
) -> None:
    world = quiet(edited(**changes))
    sicken(world)
    world.run(PAUSE + 300)
    assert not moves(world)


def test_nothing_moves_while_the_service_is_paused() -> None:
    world = quiet()
    answer_to(world, PauseService("r", "chat", "a person looks"))
    sicken(world)
    world.run(PAUSE + 300)
    assert not moves(world)


def test_nothing_moves_while_demand_moves_the_counts() -> None:
    world = quiet()
    sicken(world)
    for turn in range(8):
        world.traffic.arrivals = 12 if turn % 2 == 0 else 0.2
        world.run(200)
    assert not moves(world)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"maxGpus": 3}, "it stays, for the GPU budget is full"),
        (
            {
                "roles": {
                    "prefill": {"template": "prefill", "max": 1},
                    "decode": {"template": "decode", "min": 2, "max": 2},
                }
            },
            "it stays, for decode is at its maximum",
        ),
    ],
)
def test_bounds_leave_no_room_for_one_more_and_it_is_said(
    changes: Mapping[str, object], why: str
) -> None:
    world = quiet(edited(**changes))
    sicken(world)
    world.run(PAUSE + 300)
    assert not moves(world)
    assert told(world).endswith(why)


def test_without_room_elsewhere_it_stays_and_it_is_said() -> None:
    world = quiet()
    for agent in world.agents.values():
        agent.sick = {index: GpuSample(ecc_uncorrected=1) for index in range(4)}
    world.run(PAUSE + 300)
    assert not moves(world)
    assert "but nothing better is free" in told(world)


def test_a_new_one_that_never_starts_ends_the_move_and_the_old_one_serves_on() -> None:
    world = quiet()
    old = sicken(world)
    for agent in world.agents.values():
        agent.stillborn = True
    world.startup_timeout = 60
    world.run(PAUSE)
    assert len(moves(world)) == 1
    assert move_of(world).leaves == ""
    assert world.state.instances[old.instance_id].state is S.IN_SERVICE
    assert world.serving(Role.DECODE) == 2


def test_when_more_is_wanted_meanwhile_both_stay_and_the_move_is_over() -> None:
    world = quiet()
    old = sicken(world)
    while not moves(world):
        world.run(5)
    answer_to(world, ScaleService("r", "chat", {Role.PREFILL: 2, Role.DECODE: 3}))
    world.run(60)
    assert world.state.instances[old.instance_id].state is S.IN_SERVICE
    assert move_of(world).leaves == ""


def taint(world: World, agent_id: str, text: str) -> None:
    """Let a node's agent tell of a taint."""
    agent = world.agents[agent_id]
    agent.inventory = replace(agent.inventory, hash=text, taints=(parse_taint(text),))
    world.send(InventoryLearned(agent_id, agent.inventory))


def decode_on_a_node_of_its_own(world: World) -> Instance:
    return world.state.instances[world.instances(Role.DECODE, S.IN_SERVICE)[0]]


@pytest.mark.parametrize("effect", ["NoExecute", "NoSchedule"])
def test_a_node_with_a_taint_no_execute_is_left_and_nothing_there_is_killed(effect: str) -> None:
    world = quiet()
    old = decode_on_a_node_of_its_own(world)
    taint(world, old.agent_id, f"broken:{effect}")
    world.run(4 * PAUSE)
    begun = [one for one in moves(world) if one.inputs["leaves"] == old.instance_id]
    if effect == "NoSchedule":
        assert not moves(world)
        assert world.state.instances[old.instance_id].state is S.IN_SERVICE
        return
    assert f"{old.agent_id} carries the taint broken:NoExecute" in begun[0].reason
    (new,) = begun[0].instance_ids
    assert world.state.instances[new].agent_id != old.agent_id
    assert world.state.instances[old.instance_id].state is S.TERMINATED
    orders = [c.verb for c in world.commands if c.instance_id in (new, old.instance_id)]
    assert orders.index(Verb.LAUNCH) < orders.index(Verb.WITHDRAW) < orders.index(Verb.DRAIN)


def test_who_tolerates_a_taint_no_execute_stays() -> None:
    world = quiet(edited(placement={"tolerations": [{"key": "broken", "effect": "NoExecute"}]}))
    taint(world, decode_on_a_node_of_its_own(world).agent_id, "broken:NoExecute")
    world.run(2 * PAUSE)
    assert not moves(world)
