"""Events: the same is said once and counted up; no service floods its namespace; errors end nothing."""

from __future__ import annotations

import pytest

from heteroscale_coordinator.core.model import Action, Decision
from heteroscale_coordinator.edge.cluster_api import Address, ApiError
from heteroscale_coordinator.edge.crd import objects, words
from heteroscale_coordinator.edge.crd.status import difference, only_words
from heteroscale_coordinator.edge.crd.tell import (
    BURST,
    COUNT_UP_S,
    EACH_S,
    SAME_S,
    Announcer,
    Writing,
    event,
)
from tests.coordinator.crd import rules
from tests.coordinator.crd.cluster import Cluster

TOLD = objects.read(
    {
        "apiVersion": words.API_VERSION,
        "kind": words.KIND,
        "metadata": {"namespace": "llm", "name": "chat", "uid": "u1", "generation": 3},
    }
)


async def test_the_same_but_for_its_numbers_is_one_event_counted_up() -> None:
    cluster = Cluster()
    announcer = Announcer(cluster, "pod-0")
    for seconds in (0.0, 1.0, 2.0, COUNT_UP_S, COUNT_UP_S + 1):
        await announcer.say(TOLD, "ScaleOut", f"R 1.{seconds:.0f} > 1.10", 1000.0 + seconds)
    ((at, told),) = cluster.objects.items()
    assert at.namespace == "llm"
    assert told["count"] == 4
    assert told["message"] == f"R 1.{COUNT_UP_S:.0f} > 1.10"
    assert told["firstTimestamp"] < told["lastTimestamp"]
    assert [verb for verb, _ in cluster.calls] == ["create", "patch"]
    later = 1000.0 + COUNT_UP_S + 2 * SAME_S
    await announcer.say(TOLD, "ScaleOut", "R 1.5 > 1.10", later)
    assert len(cluster.objects) == 2


@pytest.mark.parametrize("action", [one for one in Action if one is not Action.HOLD])
async def test_a_server_takes_each_event_whatever_is_decided_and_however_long(
    action: Action,
) -> None:
    name = "c" * 63
    told = objects.read(
        {
            "apiVersion": words.API_VERSION,
            "kind": words.KIND,
            "metadata": {"namespace": "llm", "name": name, "uid": "u1", "generation": 3},
        }
    )
    cluster = Cluster()
    announcer = Announcer(cluster, "pod-" + "0" * 200)
    text = "R 1.30 > 1.10 \N{GREEK SMALL LETTER THETA}\n" * 500
    await announcer.decided(told, Decision("d1", name, 1000.5, action, text, "demand"))
    (made,) = cluster.objects.values()
    assert rules.event_breaches(made) == []


def test_the_checker_of_events_sees_what_a_server_refuses() -> None:
    writing = Writing("Chat.1", "", "x" * 2000, False, 0.0, 0.0, 1)
    wrong = event(TOLD, writing, "") | {"type": "Bad", "firstTimestamp": "now"}
    wrong |= {"reportingComponent": "a/b/c"}
    wrong["metadata"]["namespace"] = "other"
    said = [line.partition(":")[0] for line in rules.event_breaches(wrong)]
    assert said == [
        "involvedObject.namespace", "metadata.name", "type", "reason", "reportingInstance",
        "reportingComponent", "message", "firstTimestamp",
    ]  # fmt: skip


async def test_many_different_ones_are_held_back() -> None:
    cluster = Cluster()
    announcer = Announcer(cluster, "pod-0")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        await announcer.say(TOLD, "Repair", f"because of {letter}", 1000.0)
    assert len(cluster.objects) == BURST
    assert announcer.left_out == 26 - BURST
    await announcer.say(TOLD, "Repair", "because of z", 1000.0 + EACH_S)
    assert len(cluster.objects) == BURST + 1
    announcer.forget(set())
    assert announcer.plan("u1", "chat", "Repair", "anew", 1000.0 + EACH_S) is not None


async def test_an_event_that_cannot_be_written_ends_nothing() -> None:
    cluster = Cluster()

    def forbidden(_verb: str, _at: Address) -> None:
        raise ApiError("no right to create events")

    cluster.fault = forbidden
    await Announcer(cluster, "pod-0").say(TOLD, "Repair", "why not", 1000.0)
    assert cluster.objects == {}


def test_a_patch_says_what_differs_and_what_went() -> None:
    before = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1], "d": 4}
    after = {"a": 1, "b": {"x": 1, "z": 3}, "c": [2], "e": None}
    assert difference(before, after) == {
        "d": None,
        "b": {"y": None, "z": 3},
        "c": [2],
        "e": None,
    }
    assert difference(after, after) == {}


def test_sentences_are_told_from_the_rest() -> None:
    before = {
        "reason": "R 1.0",
        "prefill": "1/1",
        "lastDecision": {"action": "hold", "reason": "R 1.0"},
        "conditions": [{"type": "Placed", "status": "True", "message": "a"}],
    }
    words_differ = {
        **before,
        "reason": "R 1.1",
        "lastDecision": {"action": "hold", "reason": "R 1.1"},
        "conditions": [{"type": "Placed", "status": "True", "message": "b"}],
    }
    assert only_words(before, words_differ)
    assert not only_words(before, {**before, "prefill": "1/2"})
    assert not only_words(before, {**before, "lastDecision": {"action": "scale_out"}})
