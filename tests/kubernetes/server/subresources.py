"""Scale, eviction, binding, finalize."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.kubernetes.server import deletes, patches, selectors, writes
from tests.kubernetes.server.calls import Call, Shared
from tests.kubernetes.server.errors import (
    Cause,
    Json,
    StatusError,
    bad_request,
    conflict,
    invalid,
    not_found,
    wrong,
)
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.patch.plain import merge
from tests.kubernetes.server.store import Table

BUDGETS: Table = ("policy", "poddisruptionbudgets")


def _at(obj: Json, path: str) -> Any:
    value: Any = obj
    for step in path.split(".") if path else []:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _spoken(selector: Any) -> str:
    """Return a selector as the string that a Scale tells."""
    if isinstance(selector, str) or selector is None:
        return selector or ""
    pairs = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    return ",".join([*pairs, *map(selectors.as_text, selector.get("matchExpressions") or [])])


def scale_of(kind: Kind, obj: Json) -> Json:
    """Return the Scale of an object."""
    paths = kind.scale
    assert paths
    meta = obj["metadata"]
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Json = {"replicas": _at(obj, paths.status) or 0}
    if selector := _spoken(_at(obj, paths.selector)):
        status["selector"] = selector
    spec = _at(obj, paths.spec)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in keys if key in meta},
        "spec": {"replicas": spec} if spec else {},
        "status": status,
    }


def _live(shared: Shared, call: Call) -> Json:
    obj = shared.store.get(call.kind.table, call.key())
    if obj is None:
        raise not_found(call.kind.plural, call.kind.group, call.name)
    return obj


def get_scale(shared: Shared, call: Call) -> Json:
    return scale_of(call.kind, _live(shared, call))


def set_scale(shared: Shared, call: Call, make: Callable[[Json], Json]) -> Json:
    """Change the wished number through a Scale.

    Raises:
        StatusError: 404, 409 for a stale resourceVersion, 422.

    """
    kind = call.kind
    assert kind.scale
    path = kind.scale.spec.split(".")

    def through(obj: Json) -> Json:
        scale = make(scale_of(kind, obj))
        if scale.get("kind") != "Scale":
            raise bad_request(f'expected "Scale", got "{scale.get("kind")}"')
        number = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(number, int) or isinstance(number, bool):
            raise bad_request("Scale.spec.replicas: json: cannot unmarshal into type int32")
        if number < 0:
            cause = wrong("spec.replicas", number, "must be greater than or equal to 0")
            raise invalid("Scale", "autoscaling", call.name, [cause])
        meta = scale.get("metadata") or {}
        inner: Any = number
        for step in reversed(path):
            inner = {step: inner}
        made = merge(obj, inner)
        for key in ("resourceVersion", "uid"):
            if meta.get(key):
                made["metadata"] = {**made["metadata"], key: meta[key]}
        return dict(made)

    made = writes.change(shared, call, through)
    return scale_of(kind, made)


def patch_scale(shared: Shared, call: Call, content: str, body: bytes) -> Json:
    patch = patches.decoded(call, content, body)
    if content == patches.APPLY:
        raise StatusError(
            501, "server-side apply of a Scale: this server of the tests does not do it"
        )
    return set_scale(shared, call, patches.maker(call, content, patch))


def bind(shared: Shared, call: Call, given: Json) -> Json:
    """Put a pod on a node, as the scheduler does.

    Raises:
        StatusError: 404, 409 if it is on one, or still has gates.

    """
    node = (given.get("target") or {}).get("name")
    if not node:
        raise invalid(
            "Binding", "", call.name, [Cause("target.name", "Required value", "FieldValueRequired")]
        )
    pod = _live(shared, call)
    spec = pod["spec"]
    if pod["metadata"].get("deletionTimestamp"):
        raise conflict(
            "pods/binding",
            "",
            call.name,
            f"pod {call.name} is being deleted, cannot be assigned to a host",
        )
    if spec.get("nodeName"):
        raise conflict(
            "pods/binding",
            "",
            call.name,
            f'pod {call.name} is already assigned to node "{spec["nodeName"]}"',
        )
    if spec.get("schedulingGates"):
        raise conflict(
            "pods/binding", "", call.name, f"pod {call.name} has non-empty .spec.schedulingGates"
        )
    spec["nodeName"] = node
    condition(shared, pod, "PodScheduled", "True")
    shared.store.put(call.kind.table, call.key(), pod)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def condition(
    shared: Shared, obj: Json, kind: str, value: str, *, reason: str = "", message: str = ""
) -> None:
    """Set one condition of an object, in place; its time moves only if its value does."""
    given = (obj.setdefault("status", {})).setdefault("conditions", [])
    was = next((one for one in given if one["type"] == kind), None)
    made = {"type": kind, "status": value, "lastTransitionTime": shared.stamp()}
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    if was is None:
        given.append(made)
        return
    if was["status"] == value:
        made["lastTransitionTime"] = was.get("lastTransitionTime") or made["lastTransitionTime"]
    was.clear()
    was.update(made)


def _ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _violated(name: str, message: str, seconds: int = 0) -> StatusError:
    details: Json = {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    headers = {}
    if seconds:
        details["retryAfterSeconds"] = seconds
        headers["Retry-After"] = str(seconds)
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    return StatusError(429, text, "TooManyRequests", details, headers)


def evict(shared: Shared, call: Call, given: Json) -> Json:
    """Delete a pod if its disruption budget lets it go.

    Raises:
        StatusError: 404, 429 if the budget does not, 500 if several budgets mean the pod.

    """
    pod = _live(shared, call)
    named = (given.get("metadata") or {}).get("name", call.name)
    if named != call.name:
        raise bad_request("name in URL does not match name in Eviction object")
    options = given.get("deleteOptions") or {}
    dry = call.dry or bool(options.get("dryRun"))
    phase = (pod.get("status") or {}).get("phase")
    if phase not in {"Succeeded", "Failed", "Pending"} and not pod["metadata"].get(
        "deletionTimestamp"
    ):
        budgets = [one for one in shared.store.peek(BUDGETS) if _means(one, pod)]
        if len(budgets) > 1:
            raise StatusError(
                500,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
                "support.",
            )
        if budgets:
            _take(shared, copy.deepcopy(budgets[0]), pod, dry=dry)
    if dry:
        return _evicted()
    deletes.delete(shared, call, options)
    return _evicted()


def _evicted() -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _means(budget: Json, pod: Json) -> bool:
    if budget["metadata"]["namespace"] != pod["metadata"]["namespace"]:
        return False
    chosen = (budget.get("spec") or {}).get("selector")
    return selectors.selector(chosen)(pod["metadata"].get("labels") or {})


def _take(shared: Shared, budget: Json, pod: Json, *, dry: bool) -> None:
    """Take one disruption of a budget.

    Raises:
        StatusError: 429.

    """
    status = budget.get("status") or {}
    name = budget["metadata"]["name"]
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if not _ready(pod):
        policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
        if policy == "AlwaysAllow" or (healthy >= wanted > 0):
            return
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _violated(
            name, f"The disruption budget {name} is still being processed by the server.", 10
        )
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 1:
        raise _violated(
            name,
            f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently",
        )
    if dry:
        return
    status["disruptionsAllowed"] = allowed - 1
    status.setdefault("disruptedPods", {})[pod["metadata"]["name"]] = shared.stamp()
    budget["status"] = status
    key = (budget["metadata"]["namespace"], name)
    shared.store.put(BUDGETS, key, budget)


def finalize(shared: Shared, call: Call, given: Json) -> Json:
    """Change the finalizers of a namespace; without any, one that is being deleted goes."""
    space = _live(shared, call)
    space["spec"] = {"finalizers": list((given.get("spec") or {}).get("finalizers") or [])}
    meta = space["metadata"]
    if (
        meta.get("deletionTimestamp")
        and not space["spec"]["finalizers"]
        and not meta.get("finalizers")
    ):
        return shared.store.drop(call.kind.table, call.key(), space)
    return shared.store.put(call.kind.table, call.key(), space)
