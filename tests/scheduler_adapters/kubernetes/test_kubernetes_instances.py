"""An instance is as far as the least of its pods; a rank that is gone is not forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.instances import running
from heteroscale_scheduler_adapters.kubernetes.pods import SeenPod, seen_pod
from heteroscale_scheduler_adapters.port import Phase, Running, Spot
from tests.scheduler_adapters.kubernetes.things import (
    NOW,
    STAMP,
    Thing,
    ours,
    owned,
    pod,
    settings,
)


def seen(thing: Thing) -> SeenPod:
    found = seen_pod(thing, settings(), "east", NOW)
    assert found is not None
    return found


def instance(*things: Thing, kept: str = "") -> Running:
    found = running([seen(thing) for thing in things], kept)
    assert found is not None
    return found


QUEUED: Thing = {"node": "", "phase": "Pending"}
STARTING: Thing = {"phase": "Pending"}
READY: Thing = {}
STOPPING: Thing = {"meta": {"deletionTimestamp": STAMP}}
ENDED: Thing = {"phase": "Failed", "meta": {"deletionTimestamp": STAMP}}
FAILED: Thing = {"phase": "Failed", "status": {"reason": "Evicted", "conditions": []}}


def rank(number: int, ranks: int, said: Thing, **more: Any) -> Thing:
    labels = ours(rank=number, ranks=ranks)
    return pod(f"p{number}", **{"node": f"n{number}", **said, **more}, labels=labels)


@pytest.mark.parametrize(
    ("first", "second", "phase"),
    [
        (READY, READY, Phase.READY),
        (READY, STARTING, Phase.STARTING),
        (QUEUED, STARTING, Phase.QUEUED),
        (READY, QUEUED, Phase.QUEUED),
        (READY, STOPPING, Phase.STOPPING),
        (ENDED, STOPPING, Phase.STOPPING),
        (ENDED, ENDED, Phase.ENDED),
        (READY, FAILED, Phase.FAILED),
        (FAILED, STOPPING, Phase.FAILED),
    ],
)
def test_it_is_as_far_as_the_least_of_its_ranks(first: Thing, second: Thing, phase: Phase) -> None:
    told = instance(rank(1, 2, second), rank(0, 2, first))
    assert told.phase is phase
    nodes = [str(said.get("node", f"n{number}")) for number, said in enumerate((first, second))]
    assert told.ranks == tuple(map(Spot, nodes))
    assert told.instance_id == "i-1"


def test_why_it_failed_is_told() -> None:
    assert instance(rank(0, 2, READY), rank(1, 2, FAILED)).message == "Evicted"


def test_a_rank_that_is_gone_fails_what_nobody_makes_anew() -> None:
    told = instance(rank(0, 3, READY))
    assert (told.phase, told.message) == (Phase.FAILED, "2 of its 3 pods are gone")
    assert told.ranks == (Spot("n0"), Spot(""), Spot(""))


def test_while_pods_are_still_made_it_waits() -> None:
    told = instance(rank(0, 2, QUEUED))
    assert (told.phase, told.message) == (Phase.QUEUED, "1 of its 2 pods are not there")


def test_a_rank_that_a_controller_makes_anew_is_waited_for() -> None:
    told = instance(rank(0, 2, READY, meta=owned("StatefulSet", "big")))
    assert (told.phase, told.message) == (Phase.STARTING, "1 of its 2 pods are not there")


def test_without_rank_0_it_has_no_endpoint() -> None:
    told = instance(rank(1, 2, READY))
    assert (told.endpoint, told.names, told.gate_seen) == ("", (), False)


def test_of_two_pods_of_a_rank_the_one_that_lives_counts() -> None:
    old = pod("a-old", labels=ours(), **FAILED)
    assert instance(old, pod("b-new", labels=ours())).phase is Phase.READY


def test_groups_of_leader_and_workers_are_one_instance() -> None:
    prefix = "leaderworkerset.sigs.k8s.io/"
    labels = {"heteroscale.io/service": "chat", "heteroscale.io/role": "decode"}
    labels |= {f"{prefix}name": "big", f"{prefix}group-index": "2", "heteroscale.io/port": "8000"}
    size = {f"{prefix}size": "2"}
    leader, worker = (
        pod(name, name[-2:], labels=labels | {f"{prefix}worker-index": index}, annotations=size)
        for name, index in (("big-n1", "0"), ("big-n2", "1"))
    )
    told = instance(worker, leader)
    assert (told.instance_id, told.phase) == ("pod-uid-big-n1", Phase.READY)
    assert told.ranks == (Spot("n1"), Spot("n2"))
    assert told.origin == "leaderworkerset/llm/big"
    assert seen(leader).member != seen(worker).member
    alone = instance(worker)
    assert (alone.instance_id, alone.phase) == ("pod-uid-big-n2", Phase.FAILED)


def test_only_what_serves_is_kept() -> None:
    assert instance(rank(0, 1, READY), kept="a budget").kept == "a budget"
    assert instance(rank(0, 1, STOPPING), kept="a budget").kept == ""


def test_of_strangers_there_is_no_instance() -> None:
    assert running([seen(pod())]) is None
    assert running([]) is None
