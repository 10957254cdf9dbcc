"""Objects as an API server gives them, cut to what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heteroscale_scheduler_adapters.kubernetes.settings import KubernetesSettings, read_settings

Thing = dict[str, Any]
NOW = 1_800_000_000.0
STAMP = "2027-01-15T08:00:00Z"
"""The same moment."""
EARLIER = "2027-01-15T07:50:00Z"
"""Ten minutes before."""


def settings(**options: Any) -> KubernetesSettings:
    return read_settings("east", options)


def node(
    name: str = "n1",
    gpus: int = 8,
    product: str = "NVIDIA-H20",
    *,
    labels: Mapping[str, str] | None = None,
    ready: str = "True",
    spec: Thing | None = None,
    allocatable: Thing | None = None,
    capacity: Thing | None = None,
    conditions: Sequence[Thing] = (),
    revision: int = 1,
) -> Thing:
    carried = {"kubernetes.io/hostname": name, **(labels or {})}
    if product:
        carried["nvidia.com/gpu.product"] = product
    amounts = {"cpu": "96", "memory": "1000Gi", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": carried, "resourceVersion": str(revision)},
        "spec": spec or {},
        "status": {
            "allocatable": allocatable if allocatable is not None else amounts,
            "capacity": capacity if capacity is not None else allocatable or amounts,
            "conditions": [{"type": "Ready", "status": ready}, *conditions],
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": "10.0.0.1"},
            ],
        },
    }


def container(gpus: int = 0, **more: Any) -> Thing:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    return {"name": "engine", "image": "vllm", "resources": resources, **more}


def conditions(**told: str) -> list[Thing]:
    return [
        {"type": kind, "status": status, "lastTransitionTime": STAMP}
        for kind, status in told.items()
    ]


READY = conditions(PodScheduled="True", ContainersReady="True", Ready="True")


def pod(
    name: str = "p1",
    node: str = "n1",
    gpus: int = 1,
    *,
    phase: str = "Running",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    meta: Thing | None = None,
    spec: Thing | None = None,
    status: Thing | None = None,
    revision: int = 1,
) -> Thing:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": f"uid-{name}",
            "creationTimestamp": EARLIER,
            "resourceVersion": str(revision),
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
            **(meta or {}),
        },
        "spec": {
            **({"nodeName": node} if node else {}),
            "containers": [container(gpus)],
            **(spec or {}),
        },
        "status": {
            "phase": phase,
            "podIP": "10.1.0.7" if node else "",
            "startTime": EARLIER,
            "conditions": READY if phase == "Running" else [],
            **(status or {}),
        },
    }


def ours(instance: str = "i-1", rank: int = 0, ranks: int = 1, **more: str) -> dict[str, str]:
    """Return the labels of a pod that was launched here."""
    prefix = "heteroscale.io/"
    said = {"cluster": "east", "service": "chat", "role": "decode", "request": "r-1"}
    said |= {"instance": instance, "rank": str(rank), "ranks": str(ranks), "port": "8000", **more}
    return {prefix + key: value for key, value in said.items()}


def owned(kind: str, name: str) -> Thing:
    return {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}
