"""Kinds of objects and their addresses at an API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""An object as JSON has it; it came from outside, so its parts are read through `objects`."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of objects."""

    api_version: str
    """``v1``, ``apps/v1``."""
    plural: str
    kind: str
    namespaced: bool = True
    scalable: bool = False
    """It has the scale subresource."""

    @property
    def group(self) -> str:
        """The API group, empty for the core's."""
        return self.api_version.rpartition("/")[0]

    @property
    def rbac(self) -> str:
        """As errors and roles name it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the address below the server's; without ``namespace`` that of all namespaces."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        parts = [root]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


NODES = Resource("v1", "nodes", "Node", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
EVENTS = Resource("v1", "events", "Event")
BUDGETS = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALERS = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment", scalable=True)
STATEFUL_SETS = Resource("apps/v1", "statefulsets", "StatefulSet", scalable=True)
REPLICA_SETS = Resource("apps/v1", "replicasets", "ReplicaSet", scalable=True)
LEADER_WORKER_SETS = Resource(
    "leaderworkerset.x-k8s.io/v1", "leaderworkersets", "LeaderWorkerSet", scalable=True
)
KNOWN = {
    (one.api_version, one.kind): one
    for one in (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, LEADER_WORKER_SETS, PODS)
}
"""Kinds whose address needs not be asked for."""
