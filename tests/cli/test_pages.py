"""Lists of thousands: instances and nodes are asked for by pages, and shown as they come."""

from __future__ import annotations

import json

import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli.conftest import Typed
from tests.cli.twin import OperatorTwin


@pytest.fixture
def many(twin: OperatorTwin) -> list[str]:
    """Let the twin have seven instances, two a page."""
    names = [f"i-{n}" for n in range(7)]
    twin.instances = {
        name: pb.Instance(
            instance_id=name,
            service="chat",
            role=types.ROLE_DECODE,
            state=types.INSTANCE_STATE_IN_SERVICE,
            agent_ids=["n1"],
        )
        for name in names
    }
    twin.largest_page = 2
    return names


def test_instances_are_shown_page_by_page(
    typed: Typed, twin: OperatorTwin, many: list[str]
) -> None:
    result = typed("get", "instances")
    assert result.exit_code == 0, result.stderr
    header, *lines = result.stdout.splitlines()
    assert header.startswith("ID ")
    assert [line.split()[0] for line in lines] == many
    assert [one.page_token for one in twin.requests] == ["", "2", "4", "6"]
    assert {one.page_size for one in twin.requests} == {1000}


def test_for_machines_the_pages_are_one_answer(
    typed: Typed, twin: OperatorTwin, many: list[str]
) -> None:
    data = json.loads(typed("get", "instances", "-o", "json").stdout)
    assert [one["instance_id"] for one in data["instances"]] == many
    assert data["next_page_token"] == ""


def test_one_of_the_last_page_is_found_by_the_beginning_of_its_id(
    typed: Typed, twin: OperatorTwin, many: list[str]
) -> None:
    twin.instances["x-9"] = pb.Instance(instance_id="x-9", service="chat")
    assert "x-9" in typed("get", "instances", "x-").stdout
    assert typed("drain", "x-").exit_code == 0
    assert twin.instances["x-9"].state == types.INSTANCE_STATE_DRAINING


def test_nodes_come_in_pages_too(typed: Typed, twin: OperatorTwin, many: list[str]) -> None:
    twin.nodes = [pb.Node(agent_id=f"n{n}", hostname=f"host-{n}") for n in range(5)]
    assert len(typed("get", "nodes").stdout.splitlines()) == 6
    assert "host-4" in typed("describe", "node", "n4").stdout


def test_a_coordinator_without_pages_is_read_all_the_same(
    typed: Typed, twin: OperatorTwin, many: list[str]
) -> None:
    twin.largest_page = 1000
    assert len(typed("get", "instances").stdout.splitlines()) == 8
    assert len(twin.requests) == 1


def test_one_that_comes_twice_is_shown_once_and_a_circle_is_told(
    typed: Typed, twin: OperatorTwin, many: list[str]
) -> None:
    twin.goes_round = True
    result = typed("get", "instances")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    assert "gives the same page again and again" in result.stderr
