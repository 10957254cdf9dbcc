"""Folding events: each change tells what became different, and in any order the same world comes out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.mirror import Mirror
from heteroscale_scheduler_adapters.kubernetes.resources import (
    BUDGETS,
    NODES,
    PODS,
    QUOTAS,
    SLICES,
    Resource,
)
from heteroscale_scheduler_adapters.port import Holding, Phase, Quota, Running
from tests.scheduler_adapters.kubernetes.things import NOW, Thing, node, ours, pod, settings


def mirror(*things: tuple[Resource, Thing]) -> Mirror:
    found = Mirror(settings(namespace="llm"), "east", lambda: NOW)
    for resource, thing in things:
        found.put(resource, thing)
    found.fold()
    return found


def budget(allowed: int) -> Thing:
    return {
        "metadata": {"name": "chat", "namespace": "llm"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": allowed},
    }


def test_a_pod_is_an_instance_and_a_holding_of_its_node() -> None:
    seen = mirror((NODES, node()), (PODS, pod(labels=ours(), gpus=2)), (PODS, pod("web", gpus=1)))
    assert seen.nodes["n1"].holdings == (
        Holding("pod/llm/p1", 2, instance_id="i-1"),
        Holding("pod/llm/web", 1),
    )
    assert seen.running["i-1"].phase is Phase.READY


def test_a_change_tells_only_what_became_different() -> None:
    seen = mirror((NODES, node()), (NODES, node("n2")), (PODS, pod(labels=ours())))
    assert seen.fold() == ({}, {})
    seen.put(NODES, node(revision=2))
    seen.put(PODS, pod(labels=ours(), revision=2))
    assert seen.fold() == ({}, {}), "another revision of the same is no change"
    seen.put(PODS, pod(labels=ours(), status={"podIP": "10.1.0.9"}))
    nodes, running = seen.fold()
    assert nodes == {}
    assert {one.endpoint for one in running.values() if one} == {"http://10.1.0.9:8000"}


def test_a_pod_that_is_gone_frees_its_node_and_its_instance_is_gone() -> None:
    seen = mirror((NODES, node()), (PODS, pod(labels=ours())))
    seen.drop(PODS, pod(labels=ours()))
    nodes, running = seen.fold()
    assert nodes["n1"] is not None
    assert nodes["n1"].holdings == ()
    assert running == {"i-1": None}
    assert seen.running == {}


def test_a_pod_that_is_over_holds_nothing_and_its_instance_has_failed() -> None:
    seen = mirror((NODES, node()), (PODS, pod(labels=ours())))
    seen.put(PODS, pod(labels=ours(), phase="Failed"))
    nodes, running = seen.fold()
    assert nodes["n1"] is not None
    assert nodes["n1"].holdings == ()
    assert running["i-1"] is not None
    assert running["i-1"].phase is Phase.FAILED


def test_a_pod_that_is_given_to_an_instance_is_its_holding_from_then_on() -> None:
    seen = mirror((NODES, node()), (PODS, pod()))
    assert seen.nodes["n1"].holdings == (Holding("pod/llm/p1", 1),)
    seen.put(PODS, pod(labels=ours()))
    nodes, running = seen.fold()
    assert nodes["n1"] is not None
    assert nodes["n1"].holdings == (Holding("pod/llm/p1", 1, instance_id="i-1"),)
    assert set(running) == {"i-1"}
    seen.put(PODS, pod(labels=ours("i-2")))
    nodes, running = seen.fold()
    assert nodes["n1"] is not None
    assert nodes["n1"].holdings[0].instance_id == "i-2"
    assert running["i-1"] is None
    assert running["i-2"] is not None


def test_a_node_that_went_is_gone_and_what_stood_there_is_told_by_its_pods() -> None:
    seen = mirror((NODES, node()), (PODS, pod(labels=ours())))
    seen.drop(NODES, node())
    assert seen.fold() == ({"n1": None}, {})
    seen.put(NODES, node())
    nodes, _ = seen.fold()
    assert nodes["n1"] is not None
    assert nodes["n1"].holdings[0].instance_id == "i-1"


def test_nodes_without_gpus_are_not_told_and_pods_that_wait_hold_nothing() -> None:
    seen = mirror(
        (NODES, node(product="", gpus=0)),
        (PODS, pod(node="", phase="Pending", labels=ours())),
    )
    assert seen.nodes == {}
    assert seen.running["i-1"].phase is Phase.QUEUED


def test_a_budget_keeps_an_instance_until_it_lets_it_go() -> None:
    seen = mirror((NODES, node()), (PODS, pod(labels=ours())), (BUDGETS, budget(0)))
    assert "llm/chat" in seen.running["i-1"].kept
    seen.put(BUDGETS, budget(1))
    _, running = seen.fold()
    assert running["i-1"] is not None
    assert running["i-1"].kept == ""
    seen.put(BUDGETS, budget(0))
    seen.fold()
    seen.drop(BUDGETS, budget(0))
    seen.fold()
    assert seen.running["i-1"].kept == ""


def test_quotas_leave_what_others_do_not_ask_for() -> None:
    quota: Thing = {"metadata": {"name": "q", "namespace": "llm"}}
    quota |= {"spec": {"hard": {"requests.nvidia.com/gpu": "8"}}}
    seen = mirror((QUOTAS, quota), (PODS, pod(labels=ours(), gpus=2)), (PODS, pod("web", gpus=3)))
    assert seen.quotas(["llm"]) == (Quota("", 5),)
    seen.drop(PODS, pod("web"))
    assert seen.quotas(["llm"]) == (Quota("", 8),)
    seen.put(QUOTAS, quota | {"spec": {}})
    assert seen.quotas(["llm"]) == ()
    seen.put(QUOTAS, quota)
    seen.drop(QUOTAS, quota)
    assert seen.quotas(["llm"]) == ()


def test_notes_are_told_anew_when_they_change() -> None:
    seen = mirror((NODES, node()))
    seen.put(NODES, node(spec={"unschedulable": True}))
    seen.put(NODES, node(gpus=7, capacity={"nvidia.com/gpu": "8"}))
    assert len(seen.node_notes()) == 1
    seen.fold()
    seen.drop(NODES, node())
    assert seen.node_notes() == ()


def test_the_pods_of_an_instance_are_known_by_rank() -> None:
    second = pod("p2", "n2", labels=ours(rank=1, ranks=2))
    seen = mirror((PODS, second), (PODS, pod(labels=ours(ranks=2))))
    assert [one.key for one in seen.pods_of("i-1")] == ["llm/p1", "llm/p2"]
    assert seen.pods_of("i-9") == ()


def events(seed: int) -> list[tuple[str, Resource, Thing]]:
    """Return a history of nodes, pods and budgets that come, change and go."""
    chance = random.Random(seed)  # noqa: S311 - a history, no secret
    found: list[tuple[str, Resource, Thing]] = []
    for _ in range(200):
        name, where = f"p{chance.randrange(8)}", f"n{chance.randrange(4)}"
        verb = "drop" if chance.random() < 0.2 else "put"
        said: dict[str, Any] = {"phase": chance.choice(["Pending", "Running", "Failed"])}
        if chance.random() < 0.6:
            instance = f"i-{chance.randrange(4)}"
            said["labels"] = ours(instance, rank=chance.randrange(2), ranks=2)
        pick = chance.random()
        if pick < 0.7:
            found.append((verb, PODS, pod(name, where, **said)))
        elif pick < 0.9:
            found.append((verb, NODES, node(where, chance.randrange(9))))
        else:
            found.append((verb, BUDGETS, budget(chance.randrange(3))))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_folded_one_by_one_or_all_at_once_it_is_the_same(seed: int) -> None:
    """Also the changes, put together, are the world."""
    slow, fast = mirror(), mirror()
    told: dict[str, Running] = {}
    for verb, resource, thing in events(seed):
        for one in (slow, fast):
            (one.put if verb == "put" else one.drop)(resource, thing)
        for key, value in slow.fold()[1].items():
            if value is None:
                told.pop(key)
            else:
                told[key] = value
    fast.fold()
    assert slow.nodes == fast.nodes
    assert slow.running == fast.running == told


def test_of_ordinals_all_but_the_last_are_kept_until_it_has_gone() -> None:
    owner = {"heteroscale.io/owner": "apps/v1 StatefulSet llm/c"}
    first, last = (pod(f"c-{n}", labels=ours(f"i-{n}"), annotations=owner) for n in range(2))
    seen = mirror((NODES, node()), (PODS, first), (PODS, last))
    assert "highest ordinal first: i-1 (1)" in seen.running["i-0"].kept
    assert not seen.running["i-1"].kept
    seen.drop(PODS, last)
    _, changed = seen.fold()
    assert changed["i-0"] is not None
    assert not changed["i-0"].kept


def test_pods_of_ours_that_wait_at_our_gate_are_loose() -> None:
    gated = {"schedulingGates": [{"name": "heteroscale.io/step"}]}
    waiting = pod(labels={"heteroscale.io/cluster": "east"}, phase="Pending", node="", spec=gated)
    seen = mirror((NODES, node()), (PODS, waiting))
    assert seen.loose
    seen.put(PODS, pod(labels={"heteroscale.io/cluster": "east"}, revision=2))
    assert not seen.loose


def _slice(ready: bool | None, service: str = "chat") -> Thing:
    said = {} if ready is None else {"conditions": {"ready": ready}}
    target = {"kind": "Pod", "namespace": "llm", "name": "p1"}
    return {
        "metadata": {
            "name": f"{service}-1",
            "namespace": "llm",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": [{"targetRef": target, **said}],
    }


def _reached(seen: Mirror) -> bool | None:
    return seen.running["i-1"].gate_seen


def test_a_service_says_whether_an_instance_is_reached() -> None:
    template = {"name": "t", "role": "decode", "gpus": 1, "gate": {"service": "chat"}}
    template["pod"] = {"spec": {"containers": [{"name": "engine"}]}}
    seen = Mirror(settings(namespace="llm", templates=[template]), "east", lambda: NOW)
    seen.put(PODS, pod(labels=ours(template="t")))
    seen.fold()
    assert _reached(seen) is None, "no slice: nobody knows"
    for ready, reached in ((None, True), (False, False), (True, True)):
        seen.put(SLICES, _slice(ready))
        seen.fold()
        assert _reached(seen) is reached
    seen.put(SLICES, _slice(ready=True, service="other"))
    seen.put(SLICES, _slice(ready=False))
    seen.fold()
    assert _reached(seen) is False
    seen.drop(SLICES, _slice(ready=False))
    seen.fold()
    assert _reached(seen) in (None, False)
