"""plan --repair, half-open breakers and changes of class: what the live fleet is told to be about."""

from __future__ import annotations

import json
import time

import pytest

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli.conftest import Typed
from tests.cli.fleets import CHAT, live_node
from tests.cli.twin import OperatorTwin

SMALL = CHAT.replace("gpus: 8", "gpus: 4").replace("[H100]", "[H20]")


def stands(twin: OperatorTwin, name: str, role: types.Role.ValueType, agent: str) -> None:
    twin.instances[name] = pb.Instance(
        instance_id=name,
        service="chat",
        role=role,
        state=types.INSTANCE_STATE_IN_SERVICE,
        agent_ids=[agent],
        gpu_indices=range(4),
        group=f"chat@{agent}",
    )


@pytest.fixture
def torn(twin: OperatorTwin) -> None:
    """A decode stands in an S1 without prefill; beside the prefill is room."""
    twin.instances.clear()
    twin.services["chat"].document = SMALL
    twin.nodes = [
        live_node("a1", "x", held=8),
        live_node("a2", "x"),
        live_node("b1", "y", held=4),
    ]
    stands(twin, "p1", types.ROLE_PREFILL, "a1")
    stands(twin, "d2", types.ROLE_DECODE, "a1")
    stands(twin, "d1", types.ROLE_DECODE, "b1")


@pytest.mark.usefixtures("torn")
def test_who_stands_badly_is_shown_with_where_it_would_go(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("plan", "chat", "--repair")
    assert result.exit_code == 0, result.stderr
    head, first, then, when = result.stdout.splitlines()
    assert head == "chat: decode d1 stands with no prefill in its s1"
    assert first.startswith("  first one is launched on a2 GPU 0,1,2,3: ")
    assert then == "  then the old one leaves, by a soft scale-in"
    assert when == "  not before nothing of it has changed for 600 s"
    (service,) = json.loads(typed("plan", "chat", "--repair", "--json").stdout)["services"]
    assert service["move"]["leaves"] == "d1"
    assert service["move"]["ranks"] == [{"agent_id": "a2", "gpus": [0, 1, 2, 3]}]
    assert service["why_not"] == ""
    assert not [one for one in twin.requests if type(one).__name__.startswith("Drain")]


@pytest.mark.usefixtures("torn")
def test_without_a_name_every_service_is_looked_at(typed: Typed, twin: OperatorTwin) -> None:
    twin.services["idle"] = pb.Service(
        name="idle", document=SMALL.replace("name: chat", "name: idle")
    )
    twin.services["chat"].last_decision.inputs["repair"] = "decode d1 stands alone; it stays, for …"
    result = typed("plan", "--repair")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("chat: decode d1 stands")
    assert "  the coordinator's last word: decode d1 stands alone; it stays, for …" in lines
    assert lines[-1] == "idle: nothing to heal"


@pytest.mark.usefixtures("torn")
def test_what_cannot_be_healed_says_why(typed: Typed, twin: OperatorTwin) -> None:
    del twin.nodes[1]
    said = typed("plan", "chat", "--repair").stdout
    assert "chat: nothing is moved: decode d1 stands with no prefill in its s1, but nothing" in said
    twin.instances["d1"].origin = "pod/x"
    assert "it was not launched by us" in typed("plan", "chat", "--repair").stdout


@pytest.mark.usefixtures("torn")
def test_sick_hardware_is_left_and_a_service_that_wants_no_repair_is_told(
    typed: Typed, twin: OperatorTwin
) -> None:
    twin.services["chat"].document = SMALL + "  placement: {repair: {enabled: false}}\n"
    twin.instances["p1"].sick = "a1 GPU 2: Xid 48"
    lines = typed("plan", "chat", "--repair").stdout.splitlines()
    assert lines[0] == "chat: prefill p1 stands on sick hardware, a1 GPU 2: Xid 48"
    assert lines[-1] == "  not by itself: spec.placement.repair.enabled is false"


def test_repair_is_of_the_live_fleet(typed: Typed, twin: OperatorTwin) -> None:
    for words in (("--fleet", "x.yaml"), ("chat", "--decode", "2"), ("chat", "--svg", "x.svg")):
        result = typed("plan", "--repair", *words)
        assert result.exit_code == 2
        assert "--repair: is of the live fleet as it stands" in result.stderr
    assert typed("plan", "--repair", "--defragment").exit_code == 2
    twin.services.clear()
    assert "has no services" in typed("plan", "--repair").stderr


# ---- half-open breakers ------------------------------------------------------------------------


@pytest.mark.usefixtures("torn")
def test_a_half_open_breaker_leaves_one_trial(typed: Typed, twin: OperatorTwin) -> None:
    twin.breakers = {"node a2": "half-open: one instance is tried"}
    twin.nodes[1].room.trial = True
    one = typed("plan", "chat", "--decode", "1")
    assert one.exit_code == 0, one.stdout
    assert "breaker: node a2: half-open: one instance is tried" in one.stdout
    two = typed("plan", "chat", "--decode", "3")
    assert two.exit_code == 1
    assert "no place on live for 3 decode" in two.stdout
    assert "breaker: node a2" in two.stdout
    twin.nodes[1].room.trial = False
    twin.nodes[1].room.trial_types.append("H20")
    assert typed("plan", "chat", "--decode", "3").exit_code == 1
    twin.nodes[1].room.trial_types[:] = ["L20"]
    assert typed("plan", "chat", "--decode", "3").exit_code == 0


# ---- changes of class --------------------------------------------------------------------------


def test_the_last_changes_of_class_are_told(typed: Typed, twin: OperatorTwin) -> None:
    twin.nodes = [live_node("n1", "x"), live_node("n2", "x", gpu="L20")]
    now = time.time()
    twin.class_changes = [
        pb.ClassChange(
            time=timestamp(now - 86400 * (9 - n)),
            domain=f"s1-{n}",
            before="low",
            after="high",
            nodes=n,
            reason=f"n{n} came with L20",
        )
        for n in range(1, 8)
    ]
    lines = typed("topology").stdout.splitlines()
    start = lines.index("Changes of RDMA class, the last 5 of 7:")
    assert [line.split("  ")[-1] for line in lines[start + 1 :]] == [
        f"s1-{n}: low → high, {n} nodes: n{n} came with L20" for n in (7, 6, 5, 4, 3)
    ]
    data = json.loads(typed("topology", "--json").stdout)
    assert [one["domain"] for one in data["class_changes"]] == [f"s1-{n}" for n in range(1, 8)]
    assert data["class_changes"][0]["after"] == "high"
    twin.class_changes = twin.class_changes[:1]
    assert "  s1-1: low → high, 1 node: n1 came with L20" in typed("topology").stdout
