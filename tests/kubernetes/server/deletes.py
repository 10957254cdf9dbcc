"""Delete: at once, after a grace period, or when the last finalizer is gone."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tests.kubernetes.server.calls import Call, Shared
from tests.kubernetes.server.errors import Json, bad_request, conflict, not_found
from tests.kubernetes.server.reads import matcher
from tests.kubernetes.server.versions import shown

_RETURNED = {
    "Pod",
    "Namespace",
    "Service",
    "ServiceAccount",
    "ResourceQuota",
    "PersistentVolumeClaim",
}
_POLICIES = {"Background", "Foreground", "Orphan"}
_WAITS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def options(call: Call, body: bytes) -> Json:
    """Return DeleteOptions of a request, of its body or of its query.

    Raises:
        StatusError: 400 for what cannot be read.

    """
    given: Any = {}
    if body.strip():
        try:
            given = json.loads(body)
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        if given.get("kind") not in {None, "DeleteOptions"}:
            given = {}
    for key in ("gracePeriodSeconds", "propagationPolicy"):
        if key in call.query:
            text = call.query[key]
            given.setdefault(key, int(text) if key == "gracePeriodSeconds" else text)
    policy = given.get("propagationPolicy")
    if policy and policy not in _POLICIES:
        raise bad_request(f'propagationPolicy: Unsupported value: "{policy}"')
    if given.get("dryRun") and given["dryRun"] != ["All"]:
        raise bad_request("dryRun: Unsupported value")
    return dict(given)


def _grace(obj: Json, wish: int | None) -> int:
    """Return the seconds that a pod is given; one that is on no node, or has ended, gets none."""
    spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in {"Failed", "Succeeded"}:
        return 0
    default = spec.get("terminationGracePeriodSeconds", 30)
    return max(0, default if wish is None else wish)


def delete(shared: Shared, call: Call, given: Json) -> Json:
    """Delete one object; returns it as it is now, or a ``Status``.

    Raises:
        StatusError: 404, 409 for a precondition.

    """
    kind, key = call.kind, call.key()
    obj = shared.store.get(kind.table, key)
    if obj is None:
        raise not_found(kind.plural, kind.group, call.name)
    meta = obj["metadata"]
    _precondition(call, meta, given.get("preconditions") or {})
    grace = _grace(obj, given.get("gracePeriodSeconds")) if kind.kind == "Pod" else 0
    finalizers = list(meta.get("finalizers") or [])
    waits = _WAITS.get(given.get("propagationPolicy") or "")
    if waits and waits not in finalizers:
        finalizers.append(waits)
    if finalizers:
        meta["finalizers"] = finalizers
    held = bool(finalizers) or bool((obj.get("spec") or {}).get("finalizers"))
    if call.dry or given.get("dryRun"):
        return shown(kind, obj)
    if not held and not grace:
        return _gone(shared, call, key, obj)
    shorter = not meta.get("deletionTimestamp") or grace < meta.get("deletionGracePeriodSeconds", 0)
    if shorter:
        _mark(shared, call, obj, grace)
        obj = shared.store.put(kind.table, key, obj)
    return shown(kind, obj)


def _precondition(call: Call, meta: Json, wanted: Json) -> None:
    for name, key in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        if wanted.get(key) and wanted[key] != meta[key]:
            why = (
                f"Precondition failed: {name} in precondition: {wanted[key]}, "
                f"{name} in object meta: {meta[key]}"
            )
            raise conflict(call.kind.plural, call.kind.group, call.name, why)


def _mark(shared: Shared, call: Call, obj: Json, grace: int) -> None:
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") and meta.get("generation"):
        meta["generation"] += 1
    end = shared.clock() + timedelta(seconds=grace)
    meta["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    meta["deletionGracePeriodSeconds"] = grace
    if call.kind.kind == "Namespace":
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}


def _gone(shared: Shared, call: Call, key: tuple[str, str], obj: Json) -> Json:
    kind = call.kind
    last = shared.store.drop(kind.table, key, obj)
    if kind.kind in _RETURNED and not kind.custom:
        return shown(kind, last)
    details = {"name": call.name, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
    if kind.group:
        details["group"] = kind.group
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details
    }  # fmt: skip


def delete_all(shared: Shared, call: Call, given: Json) -> Json:
    """Delete all that the selectors mean; returns them as a list."""
    means = matcher(call)
    found = [dict(obj) for obj in shared.store.peek(call.kind.table) if means(obj)]
    for obj in found:
        delete(shared, call.on(obj["metadata"]["name"]), given)
    return {
        "kind": f"{call.kind.kind}List",
        "apiVersion": call.kind.api_version,
        "metadata": {"resourceVersion": str(shared.store.revision)},
        "items": [shown(call.kind, obj) for obj in found],
    }
