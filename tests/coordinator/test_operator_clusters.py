"""Sub-clusters as an operator is shown them: up or not, since when, why, and what counts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heteroscale.convert import unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import InstanceState
from heteroscale_coordinator.core.devices import GpuFact
from heteroscale_coordinator.core.events import Changes, ClusterTold
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.core.rules import Rules, SubClusterRules
from tests.coordinator.twin import TwinLoop
from tests.coordinator.values import NOW, instance

if TYPE_CHECKING:
    from heteroscale.v1.operator_pb2_grpc import OperatorServiceAsyncStub


async def clusters(stub: OperatorServiceAsyncStub) -> dict[str, pb.Cluster]:
    """Return them by name, in the order in which they are told."""
    answer = await stub.ListClusters(pb.ListClustersRequest())
    return {one.name: one for one in answer.clusters}


def node(loop: TwinLoop, name: str, cluster: str = "", *, gpus: int = 4) -> None:
    """Have an agent with GPUs in a physical cluster."""
    levels = {"physical_cluster": cluster} if cluster else {}
    agent = loop.state.agent(name, loop.now)
    agent.heard = agent.connected = True
    agent.inventory = Inventory(gpus=tuple(GpuFact(n, "H20") for n in range(gpus)), topology=levels)


async def test_hosts_without_a_name_and_clusters_of_adapters_stand_side_by_side(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    loop.state.rules = Rules(
        sub_clusters={
            "east": SubClusterRules(
                prices={"H20": 2.5}, quotas={"H20": 6}, service_quotas={"chat": 4}
            )
        }
    )
    node(loop, "host-1")
    node(loop, "east/n1", "east")
    node(loop, "cpu-only", gpus=0)
    note = "orphan i-9: no service 'old' is known here"
    loop.state.clusters["east"] = ClusterTold("east", {"": 8}, (note,), since=NOW - 60)
    loop.state.clusters["west"] = ClusterTold("west", trouble="no login", since=NOW - 5)

    found = await clusters(stub)

    assert list(found) == ["", "east", "west"]
    bare, east, west = found.values()
    assert (bare.adapter, bare.state, bare.nodes, bare.gpu_count) == (False, "up", 1, 4)
    assert not bare.HasField("state_time"), "nobody told since when"
    assert (east.adapter, east.state, east.message) == (True, "up", "")
    assert unix_seconds(east.state_time) == NOW - 60
    assert dict(east.own_quotas) == {"": 8}
    assert (dict(east.gpu_quotas), dict(east.service_quotas)) == ({"H20": 6}, {"chat": 4})
    assert dict(east.gpu_prices) == {"H20": 2.5}
    assert list(east.notes) == [note]
    assert (west.state, west.message, west.nodes) == ("down", "no login", 0)


async def test_what_stands_in_a_silent_cluster_still_counts(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    for name in ("east/n1", "east/n2"):
        node(loop, name, "east")
        loop.state.agents[name].silent = True
        loop.state.agents[name].heard_at = NOW - 40
    ended = InstanceState.TERMINATED
    there = [
        instance("i-1", agent="east/n1"),
        instance("i-2", agent="east/n1", of="code"),
        instance("i-3", state=ended, agent="east/n2"),
    ]
    loop.commit(Changes(instances={one.instance_id: one for one in there}))
    loop.state.silent_sub_clusters = {"east": "silent: 2 of 2 agents are not heard"}

    east = (await clusters(stub))["east"]

    assert (east.state, east.message) == ("silent", "silent: 2 of 2 agents are not heard")
    assert unix_seconds(east.state_time) == NOW - 40
    assert (east.nodes, east.silent_nodes) == (2, 2)
    assert (east.gpus_used, dict(east.instances)) == (4, {"chat": 1, "code": 1})


async def test_where_there_is_but_one_cluster_it_is_silent_when_none_is_heard(
    stub: OperatorServiceAsyncStub, loop: TwinLoop
) -> None:
    node(loop, "host-1")
    loop.state.agents["host-1"].silent = True
    (only,) = (await clusters(stub)).values()
    assert (only.state, only.message) == ("silent", "no agent is heard")
