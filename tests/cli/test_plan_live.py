"""plan on the live fleet: beside what stands, and of services that the coordinator has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli.conftest import Typed
from tests.cli.fleets import CHAT, live_node, service_file
from tests.cli.twin import OperatorTwin


@pytest.fixture
def fleet_there(twin: OperatorTwin) -> None:
    """Two S1s: one in which chat stands already, one free, and a node that is cordoned."""
    twin.nodes = [
        live_node("a1", "x", held=4, gpu="H100"),
        live_node("a2", "x", held=8),
        live_node("a3", "x"),
        live_node("b1", "y", gpu="H100"),
        live_node("b2", "y", closed="cordoned: fans"),
    ]
    twin.instances.clear()
    for name, role, agent in (
        ("p1", types.ROLE_PREFILL, "a1"),
        ("d1", types.ROLE_DECODE, "a2"),
    ):
        twin.instances[name] = pb.Instance(
            instance_id=name,
            service="chat",
            role=role,
            state=types.INSTANCE_STATE_IN_SERVICE,
            agent_ids=[agent],
            group="chat@s1=x",
            running=1.0,
            waiting=0.0,
        )
    twin.instances["gone"] = pb.Instance(
        instance_id="gone",
        service="chat",
        role=types.ROLE_DECODE,
        state=types.INSTANCE_STATE_FAILED,
    )


@pytest.mark.usefixtures("fleet_there")
def test_live_plans_grow_the_group_that_stands(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    words = ("plan", "-f", service_file(tmp_path), "--prefill", "1", "--decode", "1")
    result = typed(*words)
    assert result.exit_code == 0, result.stderr
    assert "1 prefill and 1 decode beside 1 prefill and 1 decode fit on live" in result.stdout
    assert "grows chat@s1=x (high class) by 1 decode on H20 and 1 prefill on H100" in result.stdout
    assert "████PPPP" in result.stdout
    assert [type(one).__name__ for one in twin.requests] == [
        "ListInstancesRequest",
        "ListNodesRequest",
    ]
    assert twin.requests[1].room_for == "chat"
    (service,) = json.loads(typed(*words, "--json").stdout)["services"]
    assert service["standing"] == {"prefill": 1, "decode": 1}


def test_a_live_plan_keeps_an_instance_in_one_numa_node(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    twin.instances.clear()
    twin.nodes = [live_node("a1", "x", gpu="H100", numa_nodes=[0, 1] * 4), live_node("a2", "x")]
    words = ("plan", "-f", service_file(tmp_path), "--prefill", "1", "--decode", "1", "--json")
    (service,) = json.loads(typed(*words).stdout)["services"]
    ranks = {one["role"]: one["ranks"][0] for one in service["instances"]}
    assert ranks["prefill"]["gpus"] == [0, 2, 4, 6]
    assert ranks["prefill"]["numa_nodes"] == [0]
    assert "numa_nodes" not in ranks["decode"]


def test_a_live_plan_heeds_taints_nvlink_and_ports_that_are_down(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    twin.instances.clear()
    halves = [0, 0, 0, 0, 4, 4, 4, 4]
    twin.nodes = [
        live_node("a0", "x", gpu="H100", taints=["dedicated=train:NoSchedule"]),
        live_node("a1", "x", gpu="H100", nvlink_groups=halves, limping=[1]),
        live_node("a2", "x"),
    ]
    words = ("plan", "-f", service_file(tmp_path), "--prefill", "1", "--decode", "1", "--json")
    (service,) = json.loads(typed(*words).stdout)["services"]
    ranks = {one["role"]: one["ranks"][0] for one in service["instances"]}
    assert ranks["prefill"]["agent_id"] == "a1"
    assert ranks["prefill"]["gpus"] == [4, 5, 6, 7]
    assert ranks["prefill"]["nvlink_groups"] == [4]


@pytest.mark.usefixtures("fleet_there")
def test_live_without_counts_is_what_min_still_lacks(typed: Typed, tmp_path: Path) -> None:
    least = CHAT.replace("min: 2", "min: 1").replace("min: 3", "min: 1")
    result = typed("plan", "-f", service_file(tmp_path, least))
    assert result.exit_code == 0
    assert "chat: nothing to place beside 1 prefill and 1 decode: it has its min" in result.stdout
    lacking = typed("plan", "-f", service_file(tmp_path))
    assert lacking.exit_code == 1
    assert "no place on live for 1 prefill and 2 decode" in lacking.stdout
    assert "nodes opened again: b2 (cordoned: fans)" in lacking.stdout


@pytest.mark.usefixtures("fleet_there")
def test_a_service_that_is_there_needs_no_file(typed: Typed, twin: OperatorTwin) -> None:
    twin.services["chat"].document = CHAT
    result = typed("plan", "chat", "--prefill", "1", "--decode", "1")
    assert result.exit_code == 0, result.stderr
    assert "grows chat@s1=x" in result.stdout
    assert "not found" in typed("plan", "nobody").stderr


@pytest.mark.usefixtures("fleet_there")
def test_a_service_that_is_not_there_yet_is_planned_all_the_same(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    twin.missing.add("fresh")
    text = CHAT.replace("name: chat", "name: fresh").replace("min: 3", "min: 1")
    result = typed("plan", "-f", service_file(tmp_path, text))
    assert "fresh: 2 prefill and 1 decode fit on live" in result.stdout
    assert twin.requests[-1].room_for == ""


@pytest.mark.usefixtures("fleet_there")
def test_a_live_plan_names_the_sub_cluster_and_says_who_is_left_out(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    for number, one in enumerate(twin.nodes):
        one.topology["physical_cluster"] = "south" if number < 3 else "north"
    twin.nodes[4].room.closed = ""
    twin.sub_clusters = [
        pb.SubCluster(name="south", gpu_prices={"H20": 1.0}, service_quotas={"fresh": 64}),
        pb.SubCluster(name="north", gpu_prices={"H20": 0.5}),
    ]
    fresh = service_file(tmp_path, CHAT.replace("name: chat", "name: fresh"))
    words = ("plan", "-f", fresh, "--prefill", "1", "--decode", "1", "--json")

    (cheap,) = json.loads(typed(*words).stdout)["services"]
    twin.sub_clusters[1].left_out = "silent: 2 of 2 agents are not heard"
    (left,) = json.loads(typed(*words).stdout)["services"]
    twin.sub_clusters[0].service_quotas["fresh"] = 11
    (none,) = json.loads(typed(*words).stdout)["services"]

    assert {i["ranks"][0]["agent_id"] for i in cheap["instances"]} == {"b1", "b2"}
    assert {i["ranks"][0]["agent_id"] for i in left["instances"]} == {"a1", "a3"}
    assert "sub-cluster north: silent: 2 of 2 agents are not heard" in left["rejected"]
    assert not none["feasible"]
    assert any("its quota for fresh is 11 GPUs, 0 are in use" in why for why in none["reasons"])


@pytest.mark.usefixtures("fleet_there")
def test_what_a_service_holds_counts_in_its_quota(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    for one in twin.nodes:
        one.topology["physical_cluster"] = "south"
    twin.instances["p1"].gpu_indices.extend(range(4))
    twin.instances["d1"].gpu_indices.extend(range(8))
    twin.sub_clusters = [pb.SubCluster(name="south", service_quotas={"chat": 12})]
    words = ("plan", "-f", service_file(tmp_path), "--prefill", "1", "--decode", "1")

    assert "its quota for chat is 12 GPUs, 12 are in use" in typed(*words).stdout


@pytest.mark.usefixtures("fleet_there")
def test_topology_notes_what_is_told_of_sub_clusters(typed: Typed, twin: OperatorTwin) -> None:
    for one in twin.nodes:
        one.topology["physical_cluster"] = "south"
    twin.sub_clusters = [
        pb.SubCluster(
            name="south",
            left_out="silent: 3 of 5 agents are not heard",
            trial="only the smallest step is tried there",
            gpu_quotas={"H20": 64},
            service_quotas={"chat": 32},
            gpu_prices={"H20": 1.5},
        ),
        pb.SubCluster(name="west"),
    ]
    result = typed("topology")
    said = " ".join((result.stdout + result.stderr).split())
    assert (
        "sub-cluster south: left out, silent: 3 of 5 agents are not heard; only the smallest step is "
        "tried there; 8 of its quota of 64 H20 are held; chat may hold 32 GPUs; H20 costs 1.5 an hour"
    ) in said
    assert "sub-cluster west" not in said
