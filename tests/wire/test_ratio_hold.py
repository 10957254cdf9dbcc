"""The wait for the other role, from the decision over the wire to the agent that keeps it."""

from __future__ import annotations

from heteroscale.words import InstanceState, Role, WithdrawReason
from heteroscale_agent import model, wire
from heteroscale_coordinator.core.events import ApplyService
from heteroscale_coordinator.core.model import Action, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.edge import orders
from tests.core.world import World

SPEC = {
    "roles": {
        "prefill": {"template": "prefill", "min": 1, "max": 4, "target": 5000},
        "decode": {"template": "decode", "min": 2, "max": 8, "target": 1000},
    },
    "ratio": "1:2",
    "policy": {"ratioGuard": {"deadline": "40s"}},
}


def grown() -> World:
    """Return a world in which decode was short, and one of each role was launched."""
    world = World()
    for index in range(4):
        world.join(f"n{index}", {"s1": "pod"}, ["H20"] * 4)
    world.send(ApplyService("apply", "chat", ServiceSpec.model_validate(SPEC), ""))
    world.traffic.arrivals, world.traffic.prompt = 12.0, 100.0
    world.startups = {Role.PREFILL: 10.0, Role.DECODE: 60.0}
    while not any(d.action is Action.SCALE_OUT for d in world.decisions):
        world.run(1)
    return world


def test_the_wait_is_on_the_wire_for_the_role_that_has_to_spare_alone() -> None:
    world = grown()
    step = next(d for d in world.decisions if d.action is Action.SCALE_OUT)
    launches = [c for c in world.commands if c.cause == step.decision_id]
    waits = {}
    for command in launches:
        instance = world.state.instances[command.instance_id]
        message = orders.command(
            command, instance, world.state.services["chat"], epoch=1, now=world.now
        )
        assert message is not None
        sent = wire.command(message.command, 5.0).action
        assert isinstance(sent, model.Launch)
        waits[sent.role] = sent.ratio_hold
    assert waits == {Role.PREFILL: 40.0, Role.DECODE: None}
    assert "1 prefill wait once Ready, at most 40 s" in step.inputs["ratio_hold"]


def test_it_is_let_in_by_a_reinstatement_when_decode_serves() -> None:
    world = grown()
    world.run(20)
    (held,) = world.instances(Role.PREFILL, InstanceState.WITHDRAWN)
    assert world.state.instances[held].reason is WithdrawReason.RATIO_HOLD
    world.agents[world.state.instances[held].agent_id].engines[held].lease_until = None
    world.run(50)
    told = [d for d in world.decisions if d.action is Action.RELEASE]
    assert [d.instance_ids for d in told] == [(held,)]
    assert [c.verb for c in world.commands if c.instance_id == held][1:] == [Verb.REINSTATE]
    assert world.state.instances[held].state is InstanceState.IN_SERVICE


def test_without_a_coordinator_the_wait_ends_at_its_deadline() -> None:
    world = grown()
    world.run(15)
    (held,) = world.instances(Role.PREFILL, InstanceState.WITHDRAWN)
    engine = world.agents[world.state.instances[held].agent_id].engines[held]
    world.turn = lambda: None  # type: ignore[method-assign] # nobody decides any more
    world.run(45)
    assert engine.fact.state is InstanceState.IN_SERVICE
