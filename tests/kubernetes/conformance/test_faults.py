"""What our server does wrong when a test asks for it: it must be wrong in just that way."""

from __future__ import annotations

import httpx
import pytest

from tests.kubernetes.conformance.test_watch import revision, said, watching
from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.server.faults import Fault, Wrong
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import pod


def test_too_many(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.fault(Fault(Wrong.STATUS, path="/pods", code=429, retry_after=3, times=1))
    with pytest.raises(Refused) as refused:
        small_kube.list("v1", "pods")
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (429, "3")
    assert small_kube.list("v1", "pods") == []


def test_an_answer_that_is_lost_was_done(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.fault(Fault(Wrong.LOST, method="POST", times=1))
    with pytest.raises(httpx.TransportError):
        small_kube.create(pod("a"))
    assert small_kube.find("v1", "pods", "a")


@pytest.mark.parametrize("wrong", [Wrong.CUT, Wrong.TRUNCATED])
def test_cut_off(small_kube: Kube, api_server: ApiServer, wrong: Wrong) -> None:
    api_server.fault(Fault(wrong, method="GET", times=1))
    with pytest.raises(httpx.TransportError):
        small_kube.list("v1", "pods")


def test_nonsense(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.fault(Fault(Wrong.GARBAGE, times=1))
    with pytest.raises(ValueError, match="Expecting value"):
        small_kube.list("v1", "pods")


def test_a_stream_that_breaks(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.fault(Fault(Wrong.WATCH_CUT, events=1, times=1))
    with watching(small_kube, resourceVersion=revision(small_kube)) as lines:
        small_kube.create(pod("a"))
        assert said(next(lines)) == ("ADDED", "a")
        # Whatever comes next for this pod is cut in half.
        with pytest.raises((httpx.TransportError, ValueError)):
            list(lines)


def test_a_stream_that_has_fallen_behind(small_kube: Kube, api_server: ApiServer) -> None:
    start = revision(small_kube)
    with watching(small_kube, resourceVersion=start) as lines:
        small_kube.create(pod("a"))
        assert said(next(lines)) == ("ADDED", "a")
        api_server.expire()
        # Its pod is placed or found wanting meanwhile; then comes the end.
        last = list(lines)[-1]
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)
    with watching(small_kube, resourceVersion=start) as lines:
        assert next(lines)["object"]["reason"] == "Expired"


def test_a_page_that_is_too_old(small_kube: Kube, api_server: ApiServer) -> None:
    for name in "abc":
        small_kube.create(pod(name))
    path = small_kube.place("v1", "pods")
    token = small_kube.ask("GET", path, params={"limit": "2"})["metadata"]["continue"]
    small_kube.create(pod("d"))
    api_server.compact()
    with pytest.raises(Refused) as refused:
        small_kube.ask("GET", path, params={"limit": "2", "continue": token})
    assert (refused.value.code, refused.value.status["reason"]) == (410, "Expired")


def test_bookmarks_tell_how_far_a_quiet_stream_is(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.bookmarks(0.05)
    query = {"resourceVersion": revision(small_kube), "allowWatchBookmarks": "true"}
    with watching(small_kube, **query, labelSelector="x=1") as lines:
        small_kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})
        line = next(lines)
    assert line["type"] == "BOOKMARK"
    assert int(line["object"]["metadata"]["resourceVersion"]) > int(query["resourceVersion"])


def test_what_was_asked_can_be_looked_at(small_kube: Kube, api_server: ApiServer) -> None:
    api_server.forget()
    small_kube.list("v1", "pods")
    (seen,) = api_server.seen()
    assert (seen.method, seen.path, seen.code) == ("GET", small_kube.place("v1", "pods"), 200)
