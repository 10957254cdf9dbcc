"""What is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.kube import Kube, Refused
from tests.kubernetes.things import GPU, pod, workload

Json = dict[str, Any]
GATE = {"name": "example.com/wait"}
WISHED = {"requests": {GPU: "1"}}


def lease(**spec: Any) -> Json:
    return {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, **spec},
    }  # fmt: skip


def test_a_lease_wants_its_fraction(kube: Kube) -> None:
    with pytest.raises(Refused) as refused:
        kube.create(lease(renewTime="2026-01-01T00:00:00Z"))
    assert (refused.value.code, refused.value.status["reason"]) == (400, "BadRequest")
    assert (
        'parsing time "2026-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00"'
        in refused.value.message
    )
    kube.create(lease(renewTime="2026-01-01T00:00:00.000000Z"))


def test_a_lease_is_never_overwritten_blindly(kube: Kube) -> None:
    made = kube.create(lease())
    del made["metadata"]["resourceVersion"]
    with pytest.raises(Refused) as refused:
        kube.replace("coordination.k8s.io/v1", "leases", made)
    assert refused.value.code == 422
    assert "metadata.resourceVersion" in refused.value.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": {"name": "Big"}}, "metadata.name"),
        ({"metadata": {"labels": {"x": "not ok"}}}, "metadata.labels"),
        ({"spec": {"containers": []}}, "spec.containers"),
        ({"spec": {"containers": [{"name": "a"}]}}, "spec.containers[0].image"),
        ({"spec": {"tolerations": [{"key": "x", "effect": "Never"}]}}, "spec.tolerations[0].effect"),
        (
            {"spec": {"containers": [{"name": "a", "image": "b", "resources": WISHED}]}},
            "spec.containers[0].resources.limits",
        ),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_be(kube: Kube, change: Json, field: str) -> None:
    made = pod("a")
    for part, fields in change.items():
        made[part] = {**made[part], **fields}
    with pytest.raises(Refused) as refused:
        kube.create(made)
    status = refused.value.status
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert field in [one["field"] for one in status["details"]["causes"]]


def test_types_are_held(kube: Kube) -> None:
    made = workload("Deployment", "d", 1)
    made["spec"]["replicas"] = "one"
    with pytest.raises(Refused) as refused:
        kube.create(made)
    assert refused.value.code == 400
    assert "cannot unmarshal string into Go struct field" in refused.value.message


def test_unknown_fields_are_dropped_or_refused(kube: Kube) -> None:
    made = pod("a", schedulingGates=[GATE])
    made["spec"]["nonsense"] = 1
    with pytest.raises(Refused) as refused:
        kube.create(made, fieldValidation="Strict")
    assert refused.value.code == 400
    assert 'unknown field "spec.nonsense"' in refused.value.message
    assert "nonsense" not in kube.create(made)["spec"]


def test_a_selector_must_mean_its_template_and_stays(kube: Kube) -> None:
    made = workload("Deployment", "d", 1, schedulingGates=[GATE])
    made["spec"]["selector"]["matchLabels"] = {"app": "other"}
    with pytest.raises(Refused) as refused:
        kube.create(made)
    assert "`selector` does not match template `labels`" in refused.value.message
    kube.create(workload("Deployment", "d", 1, schedulingGates=[GATE]))
    with pytest.raises(Refused) as refused:
        kube.patch(
            "apps/v1", "deployments", "d", {"spec": {"selector": {"matchLabels": {"x": "1"}}}}
        )
    assert "field is immutable" in refused.value.message


def test_a_role_gives_what_it_says_and_no_more(small_kube: Kube) -> None:
    kube = small_kube
    kube.manifest(
        """
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
"""
    )
    assert kube.server
    user = f"system:serviceaccount:{kube.namespace}:reader"
    head = {"Authorization": f"Bearer {kube.server.token(user)}"}
    assert kube.ask("GET", kube.place("v1", "pods"), headers=head)["items"] == []
    with pytest.raises(Refused) as refused:
        kube.ask("DELETE", kube.place("v1", "pods", "a"), headers=head)
    assert (refused.value.code, refused.value.status["reason"]) == (403, "Forbidden")
    assert refused.value.message == (
        f'pods "a" is forbidden: User "{user}" cannot delete resource "pods" in API group "" '
        f'in the namespace "{kube.namespace}"'
    )
    with pytest.raises(Refused) as refused:
        kube.ask("GET", "/api/v1/nodes", headers=head)
    assert refused.value.message == (
        f'nodes is forbidden: User "{user}" cannot list resource "nodes" in API group "" '
        "at the cluster scope"
    )
    with pytest.raises(Refused) as refused:
        kube.ask("GET", "/api/v1/nodes", headers={"Authorization": "Bearer nobody"})
    assert refused.value.code == 401
