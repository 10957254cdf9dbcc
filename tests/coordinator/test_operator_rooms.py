"""What an operator is shown of nodes: pages of them, and what placement may use of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory.stability import Breaker
from heteroscale_coordinator.core.placement import ClassChange
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.topology import SubgroupClass
from tests.coordinator.refusals import refused
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


S = grpc.StatusCode


async def test_nodes_tell_their_room_only_when_asked(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.state.agents["agent-2"].connected = False
    assert not (await stub.ListNodes(pb.ListNodesRequest())).nodes[0].HasField("room")
    loop.state.rules = loop.state.rules.model_copy(update={"prices": {"H20": 1.4}})
    agent = loop.state.agents["agent-2"]
    agent.inventory = replace(
        agent.inventory,
        gpus=tuple(replace(gpu, vendor="nvidia") for gpu in agent.inventory.gpus),
    )
    answer = await stub.ListNodes(pb.ListNodesRequest(with_room=True))
    assert (dict(answer.gpu_prices), dict(answer.gpu_vendors)) == ({"H20": 1.4}, {})
    one, two = answer.nodes
    assert list(one.room.gpu_indices) == [0, 1]
    assert list(one.room.gpu_types) == ["H20"]
    assert (list(one.room.held_gpus), list(one.room.free_gpus)) == ([0, 1], [])
    assert list(one.room.templates) == ["chat-decode"]
    assert one.room.closed == ""
    assert (list(two.room.held_gpus), list(two.room.free_gpus)) == ([], [0, 1])
    assert two.room.closed == "not connected"
    assert list(two.room.numa_nodes) == []
    gpus = (replace(agent.inventory.gpus[0], numa_node=1), *agent.inventory.gpus[1:])
    agent.inventory = replace(agent.inventory, gpus=gpus)
    two = (await stub.ListNodes(pb.ListNodesRequest(with_room=True))).nodes[1]
    assert list(two.room.numa_nodes) == [1, -1]


async def test_asking_for_room_does_nothing_of_a_turns_work(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    for name, kind, vendor in (("agent-1", "H20", "nvidia"), ("agent-2", "MI300X", "amd")):
        agent = loop.state.agents[name]
        gpus = tuple(replace(gpu, type=kind, vendor=vendor) for gpu in agent.inventory.gpus)
        agent.inventory = replace(agent.inventory, gpus=gpus)
    seen = loop.state.seen
    before = (set(seen.stale), seen.begun, seen.whole)
    first = await stub.ListNodes(pb.ListNodesRequest(with_room=True))
    assert (set(seen.stale), seen.begun, seen.whole) == before
    assert not first.gpu_vendors
    sites.catch_up(Draft(loop.state, NOW, str))
    later = await stub.ListNodes(pb.ListNodesRequest(with_room=True))
    assert dict(later.gpu_vendors) == {"H20": "nvidia", "MI300X": "amd"}


async def test_room_for_a_service_leaves_out_where_its_launches_failed(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    chat = loop.state.services["chat"]
    memory = replace(chat.memory, avoid={"agent-2": NOW + 60, "agent-1": NOW - 60})
    loop.commit(Changes({"chat": replace(chat, memory=memory)}))
    request = pb.ListNodesRequest(with_room=True, room_for="chat")
    one, two = (await stub.ListNodes(request)).nodes
    assert one.room.closed == ""
    assert two.room.closed == "it is passed over for a short while"
    plain = pb.ListNodesRequest(with_room=True, agent_id="agent-2")
    assert (await stub.ListNodes(plain)).nodes[0].room.closed == ""
    unknown = stub.ListNodes(pb.ListNodesRequest(with_room=True, room_for="nobody"))
    assert (await refused(unknown))[0] is S.NOT_FOUND


async def test_room_for_a_service_tells_what_its_breakers_close_and_what_they_try(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    chat = loop.state.services["chat"]
    tried, shut = (Breaker(3, NOW - 200, 1, until) for until in (NOW - 100, NOW + 40))
    kept = replace(
        chat.memory.stability,
        nodes={"agent-1": tried, "agent-2": shut},
        types={"H20": tried, "L20": shut},
    )
    memory = replace(chat.memory, stability=kept)
    loop.commit(Changes({"chat": replace(chat, memory=memory)}))
    answer = await stub.ListNodes(pb.ListNodesRequest(with_room=True, room_for="chat"))
    one, two = answer.nodes
    assert (one.room.trial, list(one.room.trial_types)) == (True, ["H20"])
    assert not two.room.trial
    assert "3 launches failed in a row, tried again in 40 s" in two.room.closed
    half_open = "half-open: one instance is tried, more once it has served for 60 s"
    failed = "3 launches failed in a row, tried again in 40 s"
    assert dict(answer.breakers) == {
        "node agent-1": half_open,
        "node agent-2": failed,
        "GPU type H20": f"{half_open}, on each node",
        "GPU type L20": failed,
    }
    plain = await stub.ListNodes(pb.ListNodesRequest(with_room=True))
    assert not plain.breakers
    assert not plain.nodes[0].room.trial


async def test_changes_of_rdma_class_come_with_the_first_page_of_rooms(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    seen = loop.state.seen
    seen.whole = True
    change = ClassChange("pod-0", SubgroupClass.LOW, SubgroupClass.HIGH, ("a", "b"))
    seen.note(NOW, [change], "c came with L20")
    request = pb.ListNodesRequest(with_room=True, page_size=1)
    first = await stub.ListNodes(request)
    (told,) = first.class_changes
    assert (told.domain, told.before, told.after, told.nodes, told.reason) == (
        *("pod-0", "low", "high"),
        2,
        "c came with L20",
    )
    assert told.time == timestamp(NOW)
    request.page_token = first.next_page_token
    assert not (await stub.ListNodes(request)).class_changes
    assert not (await stub.ListNodes(pb.ListNodesRequest())).class_changes


async def test_a_mixed_node_tells_the_type_of_each_gpu(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    agent = loop.state.agents["agent-2"]
    first, second = agent.inventory.gpus
    gpus = (replace(first, type="L20"), second)
    agent.inventory = replace(agent.inventory, gpus=gpus)
    request = pb.ListNodesRequest(with_room=True, agent_id="agent-2")
    (node,) = (await stub.ListNodes(request)).nodes
    assert list(node.room.gpu_types) == ["L20", "H20"]


async def test_a_gpu_that_is_cordoned_is_closed_with_its_why(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    shut = Cordon("agent-2", 1, "", NOW)
    loop.commit(Changes(cordons={shut.key: shut}))
    request = pb.ListNodesRequest(with_room=True, agent_id="agent-2")
    (node,) = (await stub.ListNodes(request)).nodes
    assert list(node.room.free_gpus) == [0]
    assert dict(node.room.closed_gpus) == {1: "cordoned"}


async def test_nodes_come_in_pages_that_end_with_a_name(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    loop.state.agent("agent-3", NOW)
    first = await stub.ListNodes(pb.ListNodesRequest(page_size=2))
    assert [node.agent_id for node in first.nodes] == ["agent-1", "agent-2"]
    del loop.state.agents["agent-2"]
    token = first.next_page_token
    rest = await stub.ListNodes(pb.ListNodesRequest(page_size=2, page_token=token))
    assert [node.agent_id for node in rest.nodes] == ["agent-3"]
    assert rest.next_page_token == ""
    assert (await stub.ListNodes(pb.ListNodesRequest(page_size=2))).next_page_token == ""


async def test_what_is_told_of_sub_clusters_comes_with_the_room(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.populate()
    for name, site in (("agent-1", "east"), ("agent-2", "west")):
        agent = loop.state.agents[name]
        levels = {**agent.inventory.topology, "physical_cluster": site}
        agent.inventory = replace(agent.inventory, topology=levels)
    sites.catch_up(Draft(loop.state, NOW, str))
    told = {
        "west": {"prices": {"H20": 2.0}, "quotas": {"H20": 8}, "serviceQuotas": {"chat": 4}},
    }
    loop.state.rules = Rules.model_validate({"subClusters": told})
    loop.state.silent_sub_clusters = {"east": "silent: 1 of 1 agents are not heard"}

    answer = await stub.ListNodes(pb.ListNodesRequest(with_room=True))

    east, west = answer.sub_clusters
    assert (east.name, east.left_out) == ("east", "silent: 1 of 1 agents are not heard")
    assert (west.name, west.left_out, west.trial) == ("west", "", "")
    assert dict(west.gpu_prices) == {"H20": 2.0}
    assert (dict(west.gpu_quotas), dict(west.service_quotas)) == ({"H20": 8}, {"chat": 4})
