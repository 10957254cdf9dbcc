"""A service that learns its target only advises, and says so, until a number is accepted."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import Role
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy.learning import targets
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.world import World


def spec(target: object) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {
            "roles": {
                "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
                "decode": {"template": "decode", "min": 2, "max": 8, "target": target},
            },
            "ratio": "1:2",
            "slo": {"ttft": 1, "tbt": 0.024},
            "gate": {"kind": "sglang-router", "routers": ["http://router:1"]},
        }
    )


def test_it_learns_under_load_and_acts_once_the_number_is_written() -> None:
    world = World()
    for index in range(4):
        world.join(f"n{index}", {"s1": "pod"}, ["H20"] * 4)
    world.send(ApplyService("one", "chat", spec(1000), ""))
    world.run(60)
    world.traffic.arrivals = 4.0
    world.send(ApplyService("two", "chat", spec("learn"), ""))
    begin = world.now
    world.run(600)
    advised = [one for one in world.decisions if one.at > begin + 1]
    assert all(one.advisory for one in advised)
    assert "the target of decode is being learned" in advised[-1].reason
    learned = world.state.services["chat"].memory.learning
    found = targets(learned, Role.DECODE, spec("learn").policy.learning)["H20"]
    # Four requests/s of 200 tokens over two decodes: what was seen, not what they could carry.
    assert 380 <= found.target <= 400
    assert found.sure  # TBT stood at 83 % of its SLO
    world.send(ApplyService("three", "chat", spec({"H20": found.target}), ""))
    accepted = world.now
    world.traffic.arrivals = 6.0
    world.run(60)
    after = [one for one in world.decisions if one.at > accepted + 1]
    assert not any(one.advisory for one in after)
    assert any(one.action is Action.SCALE_OUT for one in after)


def test_a_target_is_stale_from_the_first_node_with_another_version_on() -> None:
    world = World()
    for index in range(2):
        world.join(f"n{index}", {"s1": "pod"}, ["H20"] * 4)
    _declare(world, "n0", "0.5.20")
    _declare(world, "n1", "0.5.20")
    world.send(ApplyService("one", "chat", spec({"H20": 1000}), ""))
    world.run(120)
    assert not world.state.services["chat"].memory.learning.stale
    used = {instance.agent_id for instance in world.state.of_service("chat")}
    upgraded = min(used)
    _declare(world, upgraded, "0.5.21")
    world.run(20)
    why = world.state.services["chat"].memory.learning.stale[Role.DECODE]
    assert "sglang 0.5.20" in why
    assert "sglang 0.5.21" in why
    # Who applies the same number once more says that it holds for what runs now.
    world.send(ApplyService("two", "chat", spec({"H20": 1000}), ""))
    world.run(20)
    assert not world.state.services["chat"].memory.learning.stale
    _declare(world, upgraded, "0.5.22")
    world.run(20)
    assert "0.5.21" in world.state.services["chat"].memory.learning.stale[Role.DECODE]
    # A new number is set for what runs now.
    world.send(ApplyService("three", "chat", spec({"H20": 1100}), ""))
    world.run(20)
    assert Role.DECODE not in world.state.services["chat"].memory.learning.stale


def _declare(world: World, name: str, version: str) -> None:
    """An agent's configuration says another version of its engines, and it connects anew."""
    agent = world.agents[name]
    templates = tuple(replace(t, engine_version=version) for t in agent.inventory.templates)
    agent.inventory = replace(agent.inventory, templates=templates, hash=f"{name}-{version}")
    world.hello(agent)
