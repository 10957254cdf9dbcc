from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.leaving import kept, ordinal, owner_kind, turn, unit
from heteroscale_scheduler_adapters.kubernetes.marks import OWNER
from heteroscale_scheduler_adapters.port import Turn
from tests.kubernetes.adapter.things import bound, pod

GOING = {names.STOPPING: "2026-01-01T00:00:00Z"}


def _group(number: int, worker: int, instance: str) -> dict[str, object]:
    labels = {names.LWS_NAME: "c", names.LWS_GROUP: str(number), names.LWS_WORKER: str(worker)}
    return bound(f"c-{number}-{worker}", instance, labels=labels)


def test_of_ready_pods_any_can_leave() -> None:
    assert kept("Deployment", [bound("a", "i-1"), bound("b", "i-2")]) == {}


def test_a_replica_set_would_end_first_what_is_not_ready_or_on_no_node() -> None:
    there = [
        bound("ready", "i-1"),
        bound("starting", "i-2", ready=False),
        bound("waiting", "i-3", gated=True),
    ]
    found = kept("Deployment", there)
    assert set(found) == {"i-1", "i-2"}
    assert "waiting first, which is on no node yet" in found["i-1"]
    some = kept("ReplicaSet", there[:2])
    assert set(some) == {"i-1"}
    assert "starting first, which is not ready" in some["i-1"]
    images = kept("ReplicaSet", [there[0], bound("pull", "i-4", phase="Pending", ready=False)])
    assert "which is not running" in images["i-1"]


def test_those_that_leave_or_are_gone_keep_nobody() -> None:
    there = [
        bound("ready", "i-1"),
        bound("leaving", "i-2", ready=False, notes=GOING),
        bound("gone", "i-3", ready=False, gone=True),
        bound("over", "i-4", ready=False, phase="Failed"),
    ]
    assert kept("Deployment", there) == {}


def test_of_ordinals_only_the_highest_leaves() -> None:
    there = [bound(f"c-{n}", f"i-{n}") for n in (2, 0, 10)]
    assert set(kept("StatefulSet", there)) == {"i-0", "i-2"}
    assert "i-10 (10)" in kept("StatefulSet", there)["i-0"]
    there[2] = bound("c-10", "i-10", notes=GOING)
    assert set(kept("StatefulSet", there)) == {"i-0"}


def test_ordinals_have_turns() -> None:
    owner = "apps/v1 StatefulSet c"
    assert turn(owner, bound("c-2", "i-2")) == Turn(owner, 2)
    lws = "leaderworkerset.x-k8s.io/v1 LeaderWorkerSet c"
    assert turn(lws, _group(1, 0, "i-2")) == Turn(lws, 1)
    assert turn("apps/v1 Deployment c", bound("c-2", "i-2")) is None
    assert turn("Pod", bound("c-2", "i-2")) is None
    assert turn(owner, bound("c", "i-2")) is None


def test_a_group_leaves_as_one() -> None:
    there = [_group(0, 0, "i-1"), _group(0, 1, "i-1"), _group(1, 0, "i-2"), _group(1, 1, "i-2")]
    assert set(kept("LeaderWorkerSet", there)) == {"i-1"}
    assert [unit(one) for one in there] == ["group 0", "group 0", "group 1", "group 1"]


def test_of_kinds_nobody_knows_none_is_known_to_stay() -> None:
    assert kept("Fleet", [bound("a", "i-1", ready=False), bound("b", "i-2")]) == {}


def test_whose_number_a_pod_is_part_of_stands_on_it() -> None:
    assert owner_kind(pod("a", notes={OWNER: "apps/v1 StatefulSet llm/c"})) == "StatefulSet"
    assert owner_kind(pod("a")) == "Pod"
    assert (ordinal(pod("c-12")), ordinal(pod("c-x7z"))) == (12, -1)
