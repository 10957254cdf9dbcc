"""Watch: what is told from where on, bookmarks, and the end of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kubernetes.kube import Kube
from tests.kubernetes.things import pod

Json = dict[str, Any]


@contextmanager
def watching(kube: Kube, plural: str = "pods", **query: str) -> Iterator[Iterator[Json]]:
    """Give the lines of a stream; it ends after ten seconds at most."""
    params = {"watch": "1", "timeoutSeconds": "10", **query}
    with kube.http.stream("GET", kube.place("v1", plural), params=params) as answer:
        assert answer.status_code == 200, answer.read()
        yield (json.loads(line) for line in answer.iter_lines() if line)


def said(line: Json) -> tuple[str, str]:
    return line["type"], line["object"]["metadata"]["name"]


def revision(kube: Kube) -> str:
    listed = kube.ask("GET", kube.place("v1", "pods"))
    return str(listed["metadata"]["resourceVersion"])


def test_from_a_list_on(kube: Kube) -> None:
    kube.create(pod("before"))
    start = revision(kube)
    with watching(kube, resourceVersion=start) as lines:
        kube.create(pod("a"))
        kube.patch("v1", "pods", "a", {"metadata": {"labels": {"x": "1"}}})
        kube.delete("v1", "pods", "a", gracePeriodSeconds=0)
        seen = []
        for line in lines:
            if line["object"]["metadata"]["name"] == "a":
                seen.append(line)
            if line["type"] == "DELETED":
                break
    assert [said(line) for line in (seen[0], seen[-1])] == [("ADDED", "a"), ("DELETED", "a")]
    assert any(line["object"]["metadata"].get("labels", {}).get("x") == "1" for line in seen)
    revisions = [int(line["object"]["metadata"]["resourceVersion"]) for line in seen]
    assert revisions == sorted(set(revisions))
    assert seen[0]["object"]["kind"] == "Pod"


@pytest.mark.parametrize("start", ["", "0"])
def test_from_nowhere_tells_what_is_there(kube: Kube, start: str) -> None:
    kube.create(pod("a"))
    kube.create(pod("b"))
    query = {"resourceVersion": start} if start else {}
    with watching(kube, **query) as lines:
        first = {said(next(lines)) for _ in range(2)}
    assert first == {("ADDED", "a"), ("ADDED", "b")}


def test_what_leaves_a_selector_is_gone(kube: Kube) -> None:
    # Gated: no scheduler writes on it meanwhile.
    gates = [{"name": "example.com/wait"}]
    kube.create(pod("a", labels={"x": "1"}, schedulingGates=gates))
    with watching(kube, resourceVersion=revision(kube), labelSelector="x=1") as lines:
        kube.patch("v1", "pods", "a", {"metadata": {"labels": {"x": "2"}}})
        assert said(next(lines)) == ("DELETED", "a")
        kube.patch("v1", "pods", "a", {"metadata": {"labels": {"x": "1"}}})
        assert said(next(lines)) == ("ADDED", "a")


def test_a_stream_ends_when_its_time_is_over(kube: Kube) -> None:
    query = {"watch": "1", "timeoutSeconds": "1", "resourceVersion": revision(kube)}
    answer = kube.http.get(kube.place("v1", "pods"), params=query)
    assert answer.status_code == 200


def test_the_list_through_the_stream(kube: Kube) -> None:
    kube.create(pod("a"))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with watching(kube, **query) as lines:
        assert said(next(lines)) == ("ADDED", "a")
        end = next(line for line in lines if line["type"] == "BOOKMARK")
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(end["object"]["metadata"]["resourceVersion"])


def test_too_long_ago_is_gone(kube: Kube) -> None:
    with watching(kube, resourceVersion="1") as lines:
        line = next(lines)
    assert line["type"] == "ERROR"
    assert (line["object"]["code"], line["object"]["reason"]) == (410, "Expired")
    assert line["object"]["message"].startswith("too old resource version: 1 (")
