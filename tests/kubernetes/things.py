"""Objects that tests make."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
GPU = "nvidia.com/gpu"


def pod_spec(gpus: int = 0, image: str = "example.invalid/engine:1", **more: Any) -> Json:
    container: Json = {"name": "engine", "image": image}
    if gpus:
        container["resources"] = {"limits": {GPU: str(gpus)}}
    return {"containers": [container], **more}


def pod(
    name: str, *, gpus: int = 0, labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None, **spec: Any,
) -> Json:  # fmt: skip
    """Return a pod with one container; ``spec`` is laid over what it has."""
    meta: Json = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(gpus, **spec)}


def node(
    name: str, *, gpus: int = 8, labels: dict[str, str] | None = None,
    taints: list[Json] | None = None, address: str = "127.0.0.1", unschedulable: bool = False,
) -> Json:  # fmt: skip
    """Return a node that is ready, as its kubelet would register it."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110", **({GPU: str(gpus)} if gpus else {})}
    spec: Json = {"taints": taints} if taints else {}
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {
            "capacity": room,
            "allocatable": dict(room),
            "addresses": [
                {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name},
            ],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
            ],
        },
    }  # fmt: skip


def workload(
    kind: str, name: str, replicas: int = 1, *, gpus: int = 0, labels: dict[str, str] | None = None,
    **spec: Any,
) -> Json:  # fmt: skip
    """Return a Deployment, ReplicaSet or StatefulSet of such pods; ``spec`` is that of its pods."""
    marks = {"app": name, **(labels or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": marks}, "spec": pod_spec(gpus, **spec)},
        },
    }


def budget(name: str, labels: dict[str, str], **spec: Any) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, **spec},
    }


def crd(plural: str, kind: str, group: str, schema: Json, **version: Any) -> Json:
    """Return a definition of one version, v1; ``version`` is laid over it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": plural, "kind": kind,
                "singular": kind.lower(), "listKind": f"{kind}List",
            },
            "versions": [
                {
                    "name": "v1", "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": schema}, **version,
                }
            ],
        },
    }  # fmt: skip
