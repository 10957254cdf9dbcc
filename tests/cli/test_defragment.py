"""plan --defragment: moves that empty nodes, and where they help a step that has no place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from heteroscale.words import Role
from heteroscale_cli.placing import inventory, planning
from heteroscale_cli.placing.planning import Asked
from heteroscale_coordinator.core.placement import Infeasible, Standing
from heteroscale_coordinator.core.placement.emptying import Tenant
from tests.cli.conftest import Typed
from tests.cli.fleets import CHAT, live_node, node, service_file, spec_of
from tests.cli.twin import OperatorTwin


def tenant(name: str, agent: str, gpus: range, **more: Any) -> pb.Instance:
    return pb.Instance(
        **{
            "instance_id": name,
            "service": "other",
            "role": types.ROLE_DECODE,
            "state": types.INSTANCE_STATE_IN_SERVICE,
            "agent_ids": [agent],
            "gpu_indices": gpus,
            **more,
        }
    )


@pytest.fixture
def scattered(twin: OperatorTwin) -> None:
    """Every node of an S1 holds two or three GPUs, so that none is whole."""
    twin.nodes = [
        live_node("a1", "x", held=2, gpu="H100"),
        live_node("a2", "x", held=2, gpu="H100"),
        live_node("b1", "x", held=2),
        live_node("b2", "x", held=3),
        live_node("b3", "x", held=3),
        live_node("c1", "y", held=1),
    ]
    rows = [
        tenant("i1", "b1", range(2)),
        tenant("i2", "b2", range(3)),
        tenant("i3", "b3", range(3), origin="pod/x"),
        tenant("i4", "", range(4), agent_ids=["a1", "a2"]),
        tenant("gone", "b1", range(8), state=types.INSTANCE_STATE_TERMINATED),
    ]
    twin.instances = {row.instance_id: row for row in rows}


@pytest.mark.usefixtures("scattered")
def test_moves_that_empty_nodes_are_proposed_with_their_commands(typed: Typed) -> None:
    result = typed("plan", "--defragment")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["i1", "other", "decode", "2", "b1", "b2", "x"]
    assert "Now:   0 of 6 nodes empty, 35 free GPUs on others." in result.stdout
    assert "Then:  1 of 6 nodes empty, 27 free GPUs on others." in result.stdout
    commands = [
        "heteroscale cordon b1 --reason defragment",
        "heteroscale drain i1 --wait",
        "heteroscale uncordon b1",
    ]
    assert [line.strip() for line in result.stdout.splitlines()[-3:]] == commands
    made = json.loads(typed("plan", "--defragment", "--json").stdout)
    assert made["empty_nodes"] == {"now": 0, "then": 1}
    assert made["nodes"][0]["moves"][0]["gpus"] == [3, 4]
    assert made["commands"] == commands


@pytest.mark.usefixtures("scattered")
def test_nothing_to_move_is_said(typed: Typed, twin: OperatorTwin) -> None:
    twin.instances.clear()
    result = typed("plan", "--defragment")
    assert result.stdout == (
        "Nothing to move: no node can be emptied inside its S1. "
        "0 of 6 nodes empty, 35 free GPUs on others.\n"
    )


@pytest.mark.usefixtures("scattered")
def test_moves_are_a_remedy_where_they_would_do(typed: Typed, tmp_path: Path) -> None:
    text = CHAT.replace("min: 3", "min: 1").replace("[H20, L20]", "[H20]")
    words = ("plan", "-f", service_file(tmp_path, text))
    result = typed(*words)
    assert result.exit_code == 1
    said = "instances moved: 1 of them, to empty b1; see `plan --defragment`"
    assert said in result.stdout
    more = typed(*words, "--prefill", "1", "--decode", "9")
    assert "instances moved" not in more.stdout


@pytest.mark.usefixtures("scattered")
def test_only_what_has_no_place_is_helped_by_moves(typed: Typed, tmp_path: Path) -> None:
    fits = CHAT.replace("gpus: 8", "gpus: 4").replace("min: 3", "min: 1").replace("chat", "small")
    lacks = CHAT.replace("min: 3", "min: 1")
    both = service_file(tmp_path, f"{fits}---\n{lacks}")
    made = json.loads(typed("plan", "-f", both, "--json").stdout)
    assert [one["feasible"] for one in made["services"]] == [True, False]


def test_the_fewest_moves_that_help_are_proposed() -> None:
    nodes = [
        node(name, held=held, s1=s1)
        for name, held, s1 in (
            ("a", 1, "x"),
            ("b", 1, "x"),
            ("c", 1, "x"),
            ("d", 4, "x"),
        )
    ]
    known = inventory.Inventory("f", tuple(nodes), any_template=True)
    holders = [
        inventory.Holder(Tenant(f"i-{name}", name, tuple(range(held))), "other", "decode")
        for name, held in (("a", 1), ("b", 1), ("c", 1), ("d", 4))
    ]
    found = planning.emptied(known, holders)
    assert [one.agent_id for one in found] == ["a", "b", "c"]
    spec = spec_of(CHAT.replace("[H100]", "[H20]").replace("[H20, L20]", "[H20]"))
    asked = Asked("chat", spec, {Role.PREFILL: 1, Role.DECODE: 1})
    (one,) = planning.make(known, [asked]).services
    assert isinstance(one.found, Infeasible)
    assert [e.agent_id for e in planning.helped_by_moves(known, one, found)] == ["a"]
    standing = {
        "other": (Standing("i-a", Role.DECODE, ("a",)), Standing("i-d", Role.DECODE, ("d",)))
    }
    after = planning.moved(replace(known, standing=standing), found)
    assert [s.agent_ids for s in after.standing["other"]] == [("d",), ("d",)]
