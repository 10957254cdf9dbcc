"""The kinds that the server knows: its own, and those of the CustomResourceDefinitions installed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.store import Store, Table

NAMES = frozenset({"metadata.name", "metadata.namespace"})
CRDS: Table = ("apiextensions.k8s.io", "customresourcedefinitions")


@dataclass(frozen=True)
class Scale:
    """Where the scale subresource finds its numbers, as dotted paths."""

    spec: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str = "status.selector"
    """A string; of built-in kinds ``spec.selector``, which is an object."""


@dataclass(frozen=True)
class Kind:
    """One kind in one version."""

    group: str
    version: str
    kind: str
    plural: str
    model: str = ""
    """Its class in kubernetes_asyncio, which knows its fields; empty: a custom resource."""
    namespaced: bool = True
    status: bool = False
    """Whether it has the status subresource."""
    scale: Scale | None = None
    generation: bool = True
    """Whether ``metadata.generation`` counts changes of what is wished for."""
    fields: frozenset[str] = NAMES
    """What field selectors may name."""
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    """Only these are allowed; empty: all."""
    schema: Json | None = field(default=None, compare=False)
    """``openAPIV3Schema`` of a custom resource."""
    columns: tuple[Json, ...] = field(default=(), compare=False)
    singular: str = ""
    selectable: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        # Events of both groups are the same objects.
        return ("", "events") if self.group == "events.k8s.io" else (self.group, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        return not self.model


def _own(group: str, version: str, kind: str, plural: str, **more: object) -> Kind:
    model = f"{version[0].upper()}{version[1:]}{kind}"
    return Kind(group, version, kind, plural, **{"model": model, **more})  # type: ignore[arg-type]


_POD_FIELDS = NAMES | {
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
}
_EVENT_FIELDS = NAMES | {
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
}
_RBAC = "rbac.authorization.k8s.io"
_SELECTED = Scale(selector="spec.selector")

BUILT_IN: tuple[Kind, ...] = (
    _own("", "v1", "Namespace", "namespaces", namespaced=False, status=True, generation=False,
         short=("ns",), fields=NAMES | {"status.phase"}, subresources=("finalize",)),
    _own("", "v1", "Node", "nodes", namespaced=False, status=True, generation=False,
         short=("no",), fields=NAMES | {"spec.unschedulable"}),
    _own("", "v1", "Pod", "pods", status=True, short=("po",), fields=_POD_FIELDS,
         subresources=("eviction", "binding", "ephemeralcontainers")),
    _own("", "v1", "Event", "events", model="CoreV1Event", generation=False, short=("ev",),
         fields=_EVENT_FIELDS),
    _own("", "v1", "Service", "services", status=True, generation=False, short=("svc",)),
    _own("", "v1", "Endpoints", "endpoints", generation=False, short=("ep",)),
    _own("", "v1", "ConfigMap", "configmaps", generation=False, short=("cm",)),
    _own("", "v1", "Secret", "secrets", generation=False, fields=NAMES | {"type"}),
    _own("", "v1", "ServiceAccount", "serviceaccounts", generation=False, short=("sa",)),
    _own("", "v1", "ResourceQuota", "resourcequotas", status=True, generation=False,
         short=("quota",)),
    _own("", "v1", "LimitRange", "limitranges", generation=False, short=("limits",)),
    _own("", "v1", "ReplicationController", "replicationcontrollers", status=True,
         short=("rc",), scale=_SELECTED),
    _own("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", status=True,
         generation=False, short=("pvc",)),
    _own("apps", "v1", "Deployment", "deployments", status=True, scale=_SELECTED,
         short=("deploy",)),
    _own("apps", "v1", "ReplicaSet", "replicasets", status=True, scale=_SELECTED, short=("rs",),
         fields=NAMES | {"status.replicas"}),
    _own("apps", "v1", "StatefulSet", "statefulsets", status=True, scale=_SELECTED,
         short=("sts",)),
    _own("apps", "v1", "DaemonSet", "daemonsets", status=True, short=("ds",)),
    _own("apps", "v1", "ControllerRevision", "controllerrevisions", generation=False),
    _own("batch", "v1", "Job", "jobs", status=True, fields=NAMES | {"status.successful"}),
    _own("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", status=True,
         short=("pdb",)),
    _own("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", status=True,
         generation=False, short=("hpa",)),
    _own("coordination.k8s.io", "v1", "Lease", "leases", generation=False),
    _own("events.k8s.io", "v1", "Event", "events", model="EventsV1Event", generation=False,
         short=("ev",), fields=NAMES | {"regarding.kind", "regarding.name", "reason", "type"}),
    _own("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    _own("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False,
         short=("pc",)),
    _own(_RBAC, "v1", "Role", "roles", generation=False),
    _own(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False, generation=False),
    _own(_RBAC, "v1", "RoleBinding", "rolebindings", generation=False),
    _own(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False,
         generation=False),
    _own("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
         namespaced=False, status=True, short=("crd", "crds")),
    _own("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
         namespaced=False, generation=False, verbs=("create",)),
    _own("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews",
         namespaced=False, generation=False, verbs=("create",)),
)  # fmt: skip


def from_crd(crd: Json) -> Iterable[Kind]:
    """Yield the kinds that an established CustomResourceDefinition serves, one per version."""
    spec = crd["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        sub = version.get("subresources") or {}
        scale = sub.get("scale")
        selectable = tuple(
            one["jsonPath"].lstrip(".") for one in version.get("selectableFields", ())
        )
        yield Kind(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            namespaced=spec["scope"] == "Namespaced",
            status="status" in sub,
            scale=None
            if scale is None
            else Scale(
                scale["specReplicasPath"].lstrip("."),
                scale["statusReplicasPath"].lstrip("."),
                scale.get("labelSelectorPath", "").lstrip("."),
            ),
            fields=NAMES | set(selectable),
            short=tuple(names.get("shortNames") or ()),
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
            columns=tuple(version.get("additionalPrinterColumns") or ()),
            singular=names.get("singular") or names["kind"].lower(),
        )


class Kinds:
    """All kinds served now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own = {(k.group, k.version, k.plural): k for k in BUILT_IN}

    def all(self) -> list[Kind]:
        return [*self._own.values(), *self._custom()]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        own = self._own.get((group, version, plural))
        if own:
            return own
        for kind in self._custom():
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return kind
        return None

    def of(self, api_version: str, kind: str) -> Kind | None:
        """Return the kind that an object's apiVersion and kind name."""
        for one in self.all():
            if one.api_version == api_version and one.kind == kind:
                return one
        return None

    def _custom(self) -> list[Kind]:
        found: list[Kind] = []
        for crd in self._store.peek(CRDS):
            conditions = (crd.get("status") or {}).get("conditions") or []
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                found += from_crd(crd)
        return found
