"""The other built-in kinds: what each must have, and what of it never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.kubernetes.server import models
from tests.kubernetes.server.errors import Cause, Json, required, unsupported, wrong
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.selectors import selector
from tests.kubernetes.server.validate import names, pods

IMMUTABLE = "field is immutable"


def _missing(model: str, obj: Json, path: str) -> Iterator[Cause]:
    """Yield what the model says must be there, below ``spec`` and the like."""
    for one in models.fields_of(model).values():
        where = f"{path}.{one.name}" if path else one.name
        if one.name in {"metadata", "status"} and not path:
            continue
        value = obj.get(one.name)
        if value is None:
            if one.required:
                yield required(where)
        else:
            yield from _missing_below(one.type, value, where)


def _missing_below(kind: str, value: Any, path: str) -> Iterator[Cause]:
    if kind.startswith("list["):
        for i, each in enumerate(value):
            yield from _missing_below(kind[5:-1], each, f"{path}[{i}]")
    elif kind.startswith("V1ObjectMeta") or not kind.startswith(("V1", "V2", "Core", "Events")):
        return
    elif isinstance(value, dict) and kind not in {"V1JSONSchemaProps", "V1ManagedFieldsEntry"}:
        yield from _missing(kind, value, path)


def _workload(obj: Json) -> Iterator[Cause]:
    spec = obj["spec"]
    template = spec.get("template") or {}
    if (spec.get("replicas") or 0) < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    chosen = spec.get("selector")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if chosen is not None:
        if not chosen.get("matchLabels") and not chosen.get("matchExpressions"):
            yield wrong("spec.selector", "{}", "empty selector is invalid for deployment")
        elif not selector(chosen)(labels):
            yield wrong(
                "spec.template.metadata.labels", labels,
                "`selector` does not match template `labels`",
            )  # fmt: skip
    yield from names.labels("spec.template.labels", labels)
    yield from pods.spec_causes(template.get("spec") or {}, "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy", "Always")
    if policy != "Always" and obj.get("kind") != "Job":
        yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def _pod(obj: Json) -> Iterator[Cause]:
    return pods.spec_causes(obj["spec"], "spec")


def _node(obj: Json) -> Iterator[Cause]:
    for i, taint in enumerate((obj.get("spec") or {}).get("taints") or []):
        yield from names.qualified(f"spec.taints[{i}].key", taint.get("key", ""))
        if taint.get("effect") not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
            yield unsupported(
                f"spec.taints[{i}].effect", taint.get("effect", ""),
                ("NoSchedule", "PreferNoSchedule", "NoExecute"),
            )  # fmt: skip


def _budget(obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield wrong(
            "spec", "{}", "minAvailable and maxUnavailable cannot be both set"
        )  # fmt: skip


def _autoscaler(obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        yield wrong("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield wrong("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


def _lease(obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for key, least in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        if spec.get(key) is not None and spec[key] < least:
            yield wrong(f"spec.{key}", spec[key], f"must be greater than {least - 1}")


def _service(obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    for i, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{i}].name")
        if not 0 < (port.get("port") or 0) < 65536:
            yield wrong(
                f"spec.ports[{i}].port", port.get("port"), "must be between 1 and 65535, inclusive"
            )


def _event(obj: Json) -> Iterator[Cause]:
    namespace = obj["metadata"].get("namespace", "")
    involved = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace", "")
    allowed = {involved} if involved else {"default", "kube-system"}
    if namespace not in allowed and involved != namespace:
        yield wrong("involvedObject.namespace", involved, "does not match event.namespace")
    if obj.get("apiVersion", "").startswith("events.k8s.io"):
        for key in ("reportingController", "reportingInstance", "action", "reason"):
            if not obj.get(key):
                yield required(key)


_RULES: dict[str, Callable[[Json], Iterator[Cause]]] = {
    "Pod": _pod,
    "Node": _node,
    "Deployment": _workload,
    "ReplicaSet": _workload,
    "StatefulSet": _workload,
    "DaemonSet": _workload,
    "PodDisruptionBudget": _budget,
    "HorizontalPodAutoscaler": _autoscaler,
    "Lease": _lease,
    "Service": _service,
    "Event": _event,
}

_FIXED = {
    "Deployment": ("selector",),
    "ReplicaSet": ("selector",),
    "DaemonSet": ("selector",),
}
_STATEFUL_FREE = {
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
}  # fmt: skip
_STATEFUL = (
    "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
    "'minReadySeconds' are forbidden"
)


def causes(kind: Kind, obj: Json) -> Iterator[Cause]:
    """Yield what is wrong with an object of a built-in kind, ``metadata`` left out."""
    seen = {required(f"{where}.containers").field for where in ("spec", "spec.template.spec")}
    told: set[str] = set()
    for cause in _missing(kind.model, obj, ""):
        if cause.field not in seen:
            told.add(cause.field)
            yield cause
    if "spec" in obj or kind.kind in {"Node", "Event"}:
        rule = _RULES.get(kind.kind)
        for cause in rule(obj) if rule else ():
            if cause.field not in told:
                yield cause


def update_causes(kind: Kind, new: Json, old: Json) -> Iterator[Cause]:
    """Yield what an update changes that never changes."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if kind.kind == "Pod":
        yield from pods.update_causes(after, before)
    for name in _FIXED.get(kind.kind, ()):
        if after.get(name) != before.get(name):
            yield wrong(f"spec.{name}", after.get(name), IMMUTABLE)
    if kind.kind == "StatefulSet":
        fixed = (set(after) | set(before)) - _STATEFUL_FREE
        if any(after.get(name) != before.get(name) for name in fixed):
            yield Cause("spec", _STATEFUL, "FieldValueForbidden")
    if kind.kind.endswith("RoleBinding") and new.get("roleRef") != old.get("roleRef"):
        yield wrong("roleRef", new.get("roleRef"), "cannot change roleRef")
