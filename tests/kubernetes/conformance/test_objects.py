"""Objects: created, read, listed, changed, in conflict, deleted."""

from __future__ import annotations

import pytest

from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.things import node, pod


def test_what_is_created_has_what_the_server_gives(kube: Kube) -> None:
    made = kube.create(pod("a", labels={"x": "1"}))
    meta = made["metadata"]
    assert meta["uid"]
    assert meta["creationTimestamp"]
    assert int(meta["resourceVersion"])
    assert meta["namespace"] == kube.namespace
    assert meta["generation"] == 1
    assert made["status"]["phase"] == "Pending"
    spec = made["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["schedulerName"] == "default-scheduler"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert kube.get("v1", "pods", "a")["metadata"]["uid"] == meta["uid"]


def test_twice_is_already_exists(kube: Kube) -> None:
    kube.create(pod("a"))
    with pytest.raises(Refused) as refused:
        kube.create(pod("a"))
    status = refused.value.status
    assert (status["code"], status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'pods "a" already exists'
    assert status["details"] == {"name": "a", "kind": "pods"}


def test_what_is_not_there_is_not_found(kube: Kube) -> None:
    with pytest.raises(Refused) as refused:
        kube.get("v1", "pods", "none")
    status = refused.value.status
    assert (status["code"], status["reason"]) == (404, "NotFound")
    assert status["message"] == 'pods "none" not found'


def test_no_such_namespace(kube: Kube) -> None:
    with pytest.raises(Refused) as refused:
        kube.create(pod("a"), namespace=kube.name("none"))
    assert refused.value.code == 404
    assert refused.value.message == f'namespaces "{kube.name("none")}" not found'


def test_a_stale_update_is_a_conflict(kube: Kube) -> None:
    made = kube.create(pod("a"))
    kube.patch("v1", "pods", "a", {"metadata": {"labels": {"x": "1"}}})
    made["metadata"]["labels"] = {"x": "2"}
    with pytest.raises(Refused) as refused:
        kube.replace("v1", "pods", made)
    assert (refused.value.code, refused.value.status["reason"]) == (409, "Conflict")
    assert refused.value.message == (
        'Operation cannot be fulfilled on pods "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_a_change_that_changes_nothing_is_no_write(kube: Kube) -> None:
    before = kube.patch("v1", "configmaps", _map(kube), {"data": {"a": "1"}})
    after = kube.patch("v1", "configmaps", "m", {"data": {"a": "1"}})
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def _map(kube: Kube) -> str:
    kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})
    return "m"


def test_a_list_has_pages(kube: Kube) -> None:
    for name in "abcde":
        kube.create(pod(name))
    path = kube.place("v1", "pods")
    first = kube.ask("GET", path, params={"limit": "2"})
    assert [one["metadata"]["name"] for one in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    kube.create(pod("aa"))
    token = first["metadata"]["continue"]
    rest = kube.ask("GET", path, params={"continue": token})
    # The pages are of one moment: what came since is not in them.
    assert [one["metadata"]["name"] for one in rest["items"]] == ["c", "d", "e"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert first["kind"] == "PodList"
    assert "kind" not in first["items"][0]


def test_a_pod_on_no_node_goes_at_once(kube: Kube) -> None:
    kube.create(pod("a", schedulingGates=[{"name": "example.com/wait"}]))
    kube.delete("v1", "pods", "a")
    assert kube.find("v1", "pods", "a") is None


def test_a_pod_on_a_node_is_given_its_grace(kube: Kube) -> None:
    name = kube.create(node(kube.name("n")))["metadata"]["name"]
    kube.create(pod("a", nodeName=name))
    gone = kube.delete("v1", "pods", "a")
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 30
    assert kube.get("v1", "pods", "a")["metadata"]["deletionTimestamp"]
    kube.delete("v1", "pods", "a", gracePeriodSeconds=0)
    assert kube.find("v1", "pods", "a") is None


def test_a_finalizer_holds(kube: Kube) -> None:
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "m", "finalizers": ["example.com/hold"]},
        }
    )
    kube.delete("v1", "configmaps", "m")
    held = kube.get("v1", "configmaps", "m")
    assert held["metadata"]["deletionTimestamp"]
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "configmaps", "m", {"metadata": {"finalizers": ["example.com/other"]}})
    assert refused.value.code == 422
    kube.patch("v1", "configmaps", "m", {"metadata": {"finalizers": None}})
    assert kube.find("v1", "configmaps", "m") is None


def test_a_delete_of_another_than_was_meant(kube: Kube) -> None:
    kube.create(pod("a"))
    with pytest.raises(Refused) as refused:
        kube.delete("v1", "pods", "a", preconditions={"uid": "another"})
    assert refused.value.code == 409
    assert "Precondition failed: UID in precondition: another" in refused.value.message


def test_selectors(kube: Kube) -> None:
    kube.create(pod("a", labels={"role": "prefill", "x": "1"}))
    kube.create(pod("b", labels={"role": "decode"}))
    kube.create(pod("c"))

    def names(**query: str) -> str:
        return "".join(one["metadata"]["name"] for one in kube.list("v1", "pods", **query))

    assert names(labelSelector="role=prefill") == "a"
    assert names(labelSelector="role!=prefill") == "bc"
    assert names(labelSelector="role in (prefill,decode),x") == "a"
    assert names(labelSelector="role notin (prefill)") == "bc"
    assert names(labelSelector="!role") == "c"
    assert names(fieldSelector="metadata.name=b") == "b"
    assert names(fieldSelector="status.phase=Pending,metadata.name!=b") == "ac"
    for query in ({"fieldSelector": "spec.priority=1"}, {"labelSelector": "a in b"}):
        with pytest.raises(Refused) as refused:
            names(**query)
        assert (refused.value.code, refused.value.status["reason"]) == (400, "BadRequest")


def test_status_and_spec_are_written_apart(kube: Kube) -> None:
    name = kube.create(node(kube.name("n")))["metadata"]["name"]
    kube.create(pod("a", nodeName=name))
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    made = kube.patch("v1", "pods", "a", {"status": status, "spec": {"x": 1}}, sub="status")
    assert made["status"]["phase"] == "Running"
    kept = kube.patch("v1", "pods", "a", {"status": {"phase": "Failed"}})
    assert kept["status"]["phase"] == "Running"
    assert [
        p["metadata"]["name"]
        for p in kube.list("v1", "pods", fieldSelector=f"spec.nodeName={name}")
    ] == ["a"]


def test_dry_runs_leave_nothing(kube: Kube) -> None:
    made = kube.create(pod("a"), dryRun="All")
    assert made["metadata"]["uid"]
    assert kube.find("v1", "pods", "a") is None
