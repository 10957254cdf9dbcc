"""The kind LeaderWorkerSet, as far as its scale subresource and its status go."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.things import crd

_FREE: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_COUNT = {"type": "integer", "format": "int32"}
DEFINITION = crd(
    "leaderworkersets",
    "LeaderWorkerSet",
    "leaderworkerset.x-k8s.io",
    {
        "type": "object",
        "properties": {
            "spec": {**_FREE, "properties": {"replicas": {**_COUNT, "default": 1}}},
            "status": {
                **_FREE,
                "properties": {"replicas": _COUNT, "hpaPodSelector": {"type": "string"}},
            },
        },
    },
    subresources={
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.hpaPodSelector",
        },
    },
)
