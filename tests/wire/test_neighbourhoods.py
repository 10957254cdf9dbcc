"""NUMA nodes, from what an agent reads to the GPUs that it is told to launch on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from heteroscale.v1 import agent_pb2
from heteroscale.words import Role
from heteroscale_agent import model, wire
from heteroscale_agent.wire.facts import inventory_message
from heteroscale_coordinator.core.events import ApplyService, InventoryLearned
from heteroscale_coordinator.core.model import Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.edge import orders
from heteroscale_coordinator.edge.wire import inventory
from tests.core.policy.build import PLAIN
from tests.core.world import World

SPEC = ServiceSpec.model_validate(
    {
        "roles": {
            "prefill": {"template": "prefill", "gpus": 2, "min": 1, "max": 2, "target": 5000},
            "decode": {"template": "decode", "gpus": 4, "min": 1, "max": 2, "target": 1000},
        },
        "policy": PLAIN,
    }
)


def launched(
    numa_nodes: Sequence[int | None], links: Sequence[int | None] = (None,) * 8
) -> dict[Role, tuple[int, ...]]:
    """Return the GPUs that a host is told to launch on, by role; it tells where each of them lies."""
    world = World()
    world.join("n0", {"s1": "pod"}, ["H20"] * len(numa_nodes))
    read = model.Inventory(
        gpus=tuple(
            model.Gpu(
                *(index, f"GPU-{index}", "NVIDIA H20", "H20", 96 << 30),
                numa_node=home,
                nvlink_group=link,
            )
            for index, (home, link) in enumerate(zip(numa_nodes, links, strict=True))
        ),
        topology={"s1": "pod"},
        templates=tuple(model.TemplateInfo(one.value, one, 1, "sglang") for one in SPEC.roles),
    )
    sent = inventory_message(read).SerializeToString()
    world.send(InventoryLearned("n0", inventory(agent_pb2.Inventory.FromString(sent))))
    world.send(ApplyService("apply", "chat", SPEC, ""))
    world.run(10)
    found = {}
    for order in world.commands:
        if order.verb is Verb.LAUNCH:
            message = orders.command(
                *(order, world.state.instances[order.instance_id], world.state.services["chat"]),
                epoch=1,
                now=world.now,
            )
            assert message is not None
            action = wire.command(message.command, 5.0).action
            assert isinstance(action, model.Launch)
            found[action.role] = action.gpu_indices
    return found


@pytest.mark.parametrize(
    ("told", "decode", "prefill"),
    [
        ((0, 0, 0, 0, 1, 1, 1, 1), (0, 1, 2, 3), (4, 5)),
        ((0, 1, 0, 1, 0, 1, 0, 1), (0, 2, 4, 6), (1, 3)),
        ((0, 0, 1, 1, 1, 1, 0, None), (2, 3, 4, 5), (0, 1)),
    ],
)
def test_each_instance_is_launched_within_one_numa_node(
    told: tuple[int | None, ...], decode: tuple[int, ...], prefill: tuple[int, ...]
) -> None:
    assert launched(told) == {Role.DECODE: decode, Role.PREFILL: prefill}


def test_where_none_is_told_the_lowest_go_first() -> None:
    assert set(launched([None] * 8).values()) in (
        {(0, 1, 2, 3), (4, 5)},
        {(0, 1), (2, 3, 4, 5)},
    )


def test_an_nvlink_group_goes_before_a_numa_node() -> None:
    across = launched((0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 2, 2, 2, 2, 6, 6))
    assert across == {Role.DECODE: (2, 3, 4, 5), Role.PREFILL: (0, 1)}
