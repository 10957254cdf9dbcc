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
