"""Objects as an API server tells them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.templates import LaunchTemplate
from heteroscale_scheduler_adapters.port import Launch, Spot

Json = dict[str, Any]
CONTAINERS = [{"name": "engine", "image": "engine:1", "args": ["--id={instance}", "{'a': 1}"]}]
MANIFEST: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "spec": {
        "selector": {"matchLabels": {"app": "chat"}},
        "template": {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": CONTAINERS}},
    },
}
LWS: Json = {
    "apiVersion": "leaderworkerset.x-k8s.io/v1",
    "kind": "LeaderWorkerSet",
    "spec": {
        "leaderWorkerTemplate": {"size": 2, "workerTemplate": {"spec": {"containers": CONTAINERS}}}
    },
}


def template(**more: Any) -> LaunchTemplate:
    """Return a template; without ``object``, ``scale`` or ``pod`` it is a Deployment."""
    if not {"object", "scale", "pod"} & set(more):
        more["object"] = MANIFEST
    said = {"name": "decode-h20", "role": "decode", "gpus": 1, "engine": "vllm"}
    return LaunchTemplate.model_validate(said | more)


def launch(instance: str = "i-1", *nodes: str, **more: Any) -> Launch:
    """Return a launch of one GPU a rank."""
    spots = tuple(Spot(node) for node in nodes or ("n1",))
    return Launch(instance, "chat", "decode", "decode-h20", spots, 1, **more)


def pod(name: str, **more: Any) -> Json:
    """Return a pod of these labels, notes, node, phase; ready, gated, gone or not; made when."""
    said: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": f"u-{name}",
            "resourceVersion": "7",
            "creationTimestamp": more.get("made", "2026-01-01T00:00:00Z"),
            "labels": dict(more.get("labels", {})),
            "annotations": dict(more.get("notes", {})),
        },
        "spec": {"nodeName": more.get("node", "n1")},
        "status": {"phase": more.get("phase", "Running")},
    }
    ready = "True" if more.get("ready", True) else "False"
    said["status"]["conditions"] = [{"type": "Ready", "status": ready}]
    if more.get("gone"):
        said["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    if more.get("gated"):
        said["spec"] = {"schedulingGates": [{"name": names.STEP_GATE}, {"name": "others/gate"}]}
        said["status"] = {"phase": "Pending"}
    return said


def bound(name: str, instance: str, request: str = "r-1", size: int = 1, **more: Any) -> Json:
    """Return a pod that is bound to an instance of a step."""
    more["labels"] = {names.INSTANCE: instance, names.REQUEST: request, **more.get("labels", {})}
    more["notes"] = {names.PREFIX + "step-size": str(size), **more.get("notes", {})}
    return pod(name, **more)
