"""The four kinds of patch, and who owns which field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.things import pod, workload

Json = dict[str, Any]
GATES = [{"name": "example.com/a"}, {"name": "example.com/b"}]


def settings(kube: Kube, **data: str) -> Json:
    return kube.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}
    )


def wish(**data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}


def test_merge_removes_by_null(kube: Kube) -> None:
    settings(kube, a="1", b="2")
    made = kube.patch("v1", "configmaps", "m", {"data": {"a": None, "c": "3"}})
    assert made["data"] == {"b": "2", "c": "3"}


def test_a_patch_that_names_a_stale_revision_is_a_conflict(kube: Kube) -> None:
    made = settings(kube, a="1")
    kube.patch("v1", "configmaps", "m", {"data": {"a": "2"}})
    stale = {
        "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
        "data": {"a": "3"},
    }
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "configmaps", "m", stale)
    assert (refused.value.code, refused.value.status["reason"]) == (409, "Conflict")


def test_a_json_patch_tests_first(kube: Kube) -> None:
    settings(kube, a="1")
    change = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
    ]
    assert kube.patch("v1", "configmaps", "m", change, kind="json")["data"] == {"a": "2"}
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "configmaps", "m", change, kind="json")
    assert refused.value.code == 422
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "configmaps", "m", [{"op": "remove", "path": "/data/none"}], kind="json")
    assert refused.value.code == 422


def test_a_strategic_patch_merges_by_keys(kube: Kube) -> None:
    kube.create(pod("a", schedulingGates=GATES, labels={"x": "1"}))
    gone = {"spec": {"schedulingGates": [{"name": "example.com/a", "$patch": "delete"}]}}
    made = kube.patch("v1", "pods", "a", gone, kind="strategic")
    assert made["spec"]["schedulingGates"] == [GATES[1]]
    first = {"status": {"conditions": [{"type": "example.com/x", "status": "True"}]}}
    second = {"status": {"conditions": [{"type": "example.com/y", "status": "False"}]}}
    kube.patch("v1", "pods", "a", first, kind="strategic", sub="status")
    made = kube.patch("v1", "pods", "a", second, kind="strategic", sub="status")
    held = {one["type"]: one["status"] for one in made["status"]["conditions"]}
    assert (held["example.com/x"], held["example.com/y"]) == ("True", "False")


def test_another_kind_of_patch_is_not_taken(kube: Kube) -> None:
    settings(kube, a="1")
    with pytest.raises(Refused) as refused:
        kube.ask(
            "PATCH", kube.place("v1", "configmaps", "m"), content=b"{}",
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
    assert (refused.value.code, refused.value.status["reason"]) == (415, "UnsupportedMediaType")


def test_an_apply_makes_and_then_changes_what_is_its(kube: Kube) -> None:
    made = kube.apply("v1", "configmaps", wish(a="1", b="2"), manager="one")
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}, "f:b": {}}}
    # What it no longer says is gone; what others said stays.
    kube.patch("v1", "configmaps", "m", {"data": {"c": "3"}}, fieldManager="two")
    made = kube.apply("v1", "configmaps", wish(a="1"), manager="one")
    assert made["data"] == {"a": "1", "c": "3"}
    before = made["metadata"]["resourceVersion"]
    made = kube.apply("v1", "configmaps", wish(a="1"), manager="one")
    assert made["metadata"]["resourceVersion"] == before


def test_an_apply_against_another_is_a_conflict(kube: Kube) -> None:
    kube.apply("v1", "configmaps", wish(a="1", b="1"), manager="one")
    with pytest.raises(Refused) as refused:
        kube.apply("v1", "configmaps", wish(a="2"), manager="two")
    status = refused.value.status
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    ]
    # The same value is no conflict: both own it.
    kube.apply("v1", "configmaps", wish(a="1"), manager="two")
    made = kube.apply("v1", "configmaps", wish(a="2"), manager="two", force=True)
    assert made["data"] == {"a": "2", "b": "1"}
    owned = {one["manager"]: one["fieldsV1"] for one in made["metadata"]["managedFields"]}
    assert owned == {"one": {"f:data": {"f:b": {}}}, "two": {"f:data": {"f:a": {}}}}


def test_who_scales_owns_the_number(kube: Kube) -> None:
    made = workload("Deployment", "d", 1, schedulingGates=GATES[:1])
    kube.apply("apps/v1", "deployments", made, manager="one")
    kube.patch(
        "apps/v1",
        "deployments",
        "d",
        {"spec": {"replicas": 2}},
        sub="scale",
        fieldManager="kubectl",
    )
    with pytest.raises(Refused) as refused:
        kube.apply("apps/v1", "deployments", made, manager="one")
    assert refused.value.status["details"]["causes"][0]["field"] == ".spec.replicas"
    assert 'conflict with "kubectl" with subresource "scale"' in refused.value.message
    del made["spec"]["replicas"]
    kept = kube.apply("apps/v1", "deployments", made, manager="one")
    assert kept["spec"]["replicas"] == 2


def test_an_apply_says_who_applies(kube: Kube) -> None:
    with pytest.raises(Refused) as refused:
        kube.apply("v1", "configmaps", wish(a="1"), manager="")
    assert refused.value.code == 422
    assert "fieldManager: Required value: is required for apply patch" in refused.value.message


def test_what_of_a_pod_never_changes(kube: Kube) -> None:
    kube.create(pod("a", schedulingGates=GATES[:1]))
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "pods", "a", {"spec": {"restartPolicy": "Never"}})
    assert (refused.value.code, refused.value.status["reason"]) == (422, "Invalid")
    assert "pod updates may not change fields other than" in refused.value.message
    kube.patch("v1", "pods", "a", {"metadata": {"labels": {"x": "1"}, "annotations": {"y": "2"}}})
    # While it is gated it may be narrowed.
    made = kube.patch("v1", "pods", "a", {"spec": {"nodeSelector": {"x": "1"}}})
    assert made["spec"]["nodeSelector"] == {"x": "1"}
    with pytest.raises(Refused) as refused:
        kube.patch("v1", "pods", "a", {"spec": {"nodeSelector": {"x": "2"}}})
    assert refused.value.code == 422


def test_generation_counts_wishes_alone(kube: Kube) -> None:
    kube.create(workload("Deployment", "d", 1, schedulingGates=GATES[:1]))
    made = kube.patch("apps/v1", "deployments", "d", {"metadata": {"labels": {"x": "1"}}})
    assert made["metadata"]["generation"] == 1
    made = kube.patch("apps/v1", "deployments", "d", {"spec": {"replicas": 2}})
    assert made["metadata"]["generation"] == 2
