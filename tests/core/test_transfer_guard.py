"""KV transfer near its limit, from a port's reading to a step that waits, and goes once it is calm."""

from __future__ import annotations

import pytest

from heteroscale.words import Role
from heteroscale_coordinator.core.devices import NicSample
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.world import World

SPEC = ServiceSpec.model_validate(
    {
        "roles": {
            "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
            "decode": {"template": "decode", "min": 2, "max": 8, "target": 1000},
        },
        "ratio": "1:2",
        "gate": {"kind": "sglang-router", "routers": ["http://router:1"]},
    }
)


def ports(world: World, share: float) -> None:
    for agent in world.agents.values():
        agent.nics = (NicSample(active=True, share=share),)


def small_pods(count: int, gpus: int = 1) -> World:
    """Return a world of minipods of a few GPUs, in which the service's least is up."""
    world = World()
    for index in range(count):
        world.join(f"n{index}", {"s1": f"pod-{index}"}, ["H20"] * gpus)
    world.send(ApplyService("apply", "chat", SPEC, ""))
    ports(world, 0.95)
    world.run(60)
    return world


@pytest.fixture
def world() -> World:
    """No minipod has room for a pair."""
    return small_pods(10)


def taken_since(world: World, at: float) -> list[Decision]:
    return [one for one in world.decisions if one.at > at]


def test_a_step_across_domains_waits_until_transfer_is_calm(world: World) -> None:
    # The minimum was launched all the same, although its pairs cross domains.
    assert (world.serving(Role.PREFILL), world.serving(Role.DECODE)) == (1, 2)
    world.traffic.arrivals, begin = 14.0, world.now
    world.run(60)
    found = taken_since(world, begin)
    assert not [one for one in found if one.action is Action.SCALE_OUT]
    told = [one for one in found if "KV transfer is near its limit" in one.reason]
    assert told
    assert all(one.bound_by == "placement" for one in told)
    assert "no pairs across s1 domains are added" in told[-1].reason
    ports(world, 0.3)
    calm = world.now
    world.run(120)
    out = [one for one in taken_since(world, calm) if one.action is Action.SCALE_OUT]
    assert out
    # Below the limit for `settle`, not at once.
    assert out[0].at - calm >= SPEC.policy.transfer.settle


def test_a_step_inside_one_domain_goes_at_once(world: World) -> None:
    world.join("n9", {"s1": "pod-9"}, ["H20"] * 8)
    ports(world, 0.95)
    world.traffic.arrivals, begin = 14.0, world.now
    world.run(60)
    out = [one for one in taken_since(world, begin) if one.action is Action.SCALE_OUT]
    assert out
    assert out[0].inputs["affinity met"] == "s1"


def test_what_of_a_step_fits_into_one_domain_is_launched() -> None:
    world = small_pods(4, gpus=2)
    world.traffic.arrivals, begin = 14.0, world.now
    world.run(20)
    (part,) = [one for one in taken_since(world, begin) if one.action is Action.SCALE_OUT]
    assert part.delta == {Role.PREFILL: 1, Role.DECODE: 1}
    assert part.inputs["affinity met"] == "s1"
    assert "No place for +1 decode: KV transfer is near its limit" in part.reason


def test_where_nothing_fits_anyway_transfer_is_not_blamed() -> None:
    world = small_pods(3)
    world.traffic.arrivals, begin = 14.0, world.now
    world.run(60)
    held = [one for one in taken_since(world, begin) if one.bound_by == "placement"]
    assert held
    assert not [one for one in held if "KV transfer" in one.reason]
