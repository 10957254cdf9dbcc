"""What scales one role of a RoleBasedGroup: the group itself has no scale subresource."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.things import crd

Json = dict[str, Any]
RBG = "workloads.x-k8s.io"
_WHOLE = {"type": "integer", "format": "int32"}
_FREE: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ADAPTERS = crd(
    "rolebasedgroupscalingadapters",
    "RoleBasedGroupScalingAdapter",
    RBG,
    {
        "type": "object",
        "properties": {
            "spec": {**_FREE, "properties": {"replicas": _WHOLE}},
            "status": {
                **_FREE,
                "properties": {"replicas": _WHOLE, "selector": {"type": "string"}},
            },
        },
    },
    name="v1alpha2",
    subresources={
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    },
)
MARKS = {f"rolebasedgroup.{RBG}/name": "chat", f"rolebasedgroup.{RBG}/role": "decode"}
"""Labels of the role's pods."""


def scaling_adapter(name: str, replicas: int) -> Json:
    """Return the scaling adapter of one role."""
    return {
        "apiVersion": f"{RBG}/v1alpha2",
        "kind": "RoleBasedGroupScalingAdapter",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "scaleTargetRef": {"name": "chat", "role": "decode"}},
    }


def scaling_status(replicas: int) -> Json:
    """Return what its controller says of it."""
    selector = ",".join(f"{key}={value}" for key, value in MARKS.items())
    return {"status": {"replicas": replicas, "selector": selector}}
