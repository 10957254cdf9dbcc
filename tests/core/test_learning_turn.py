"""A service that learns its target only advises, and says so, until a number is accepted."""

from __future__ import annotations

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
