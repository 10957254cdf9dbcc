"""Create and change: what is given is shaped, filled in, held to the rules, and kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tests.kubernetes.server import models
from tests.kubernetes.server.admission import admit
from tests.kubernetes.server.calls import Call, Shared
from tests.kubernetes.server.errors import (
    Cause,
    Json,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.patch.managed import Entries, Owner, stamp, updated
from tests.kubernetes.server.validate import defaults, definitions, names, structural
from tests.kubernetes.server.validate import kinds as rules
from tests.kubernetes.server.versions import kept, shown

# Of these, a new object keeps the status that it comes with.
_WITH_STATUS = {"Node"}
# The server owns these; whoever sends others is not heard.
_OWN_META = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def shaped(call: Call, given: Json) -> Json:
    """Return an object of a request with the fields that its kind has.

    Raises:
        StatusError: 400 for another kind, values of another type, or unknown fields if strict.

    """
    kind = call.kind
    if not kind.custom:
        # The real server knows by the path what is meant; of custom resources it wants to be told.
        given = {**given}
        given["kind"] = given.get("kind") or kind.kind
        given["apiVersion"] = given.get("apiVersion") or kind.api_version
    named = (given.get("apiVersion"), given.get("kind"))
    if not given.get("kind") or not given.get("apiVersion"):
        missing = "kind" if not given.get("kind") else "apiVersion"
        raise bad_request(f"Object '{missing.capitalize()}' is missing in the request body")
    if named != (kind.api_version, kind.kind):
        raise bad_request(
            f"the API version in the data ({named[0]}) does not match the expected API version "
            f"({kind.api_version}): {named[1]} for {kind.kind}"
        )
    if kind.custom:
        obj = copy.deepcopy(given)
        meta, unknown = models.shape(
            "V1ObjectMeta", kind.kind, kind.version, obj.get("metadata") or {}
        )
        obj["metadata"] = meta
        if kind.schema is not None:
            unknown += structural.prune(kind.schema, obj)
            structural.default(kind.schema, obj)
    else:
        obj, unknown = models.shape(kind.model, kind.kind, kind.version, given)
        obj.setdefault("metadata", {})
        defaults.fill(kind.kind, obj)
    if unknown and call.strictness == "Strict":
        said = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise bad_request(f"strict decoding error: {said}")
    return obj


def _check(call: Call, obj: Json, old: Json | None) -> None:
    """Hold an object to the rules.

    Raises:
        StatusError: 422 with every cause.

    """
    kind = call.kind
    causes: list[Cause] = list(names.meta_causes(kind.kind, obj["metadata"]))
    if kind.custom:
        causes += structural.causes(kind.schema or {}, obj)
    elif kind.kind == "CustomResourceDefinition":
        causes += definitions.causes(obj)
    elif call.sub != "status":
        causes += rules.causes(kind, obj)
    if old is not None:
        causes += _meta_changes(obj["metadata"], old["metadata"])
        if not kind.custom and call.sub != "status":
            causes += rules.update_causes(kind, obj, old)
    if causes:
        raise invalid(kind.kind, kind.group, obj["metadata"].get("name", ""), causes)


def _meta_changes(new: Json, old: Json) -> list[Cause]:
    """Return what of ``metadata`` was to change and never does."""
    found = []
    if old.get("deletionTimestamp"):
        fresh = [
            one for one in new.get("finalizers") or [] if one not in (old.get("finalizers") or [])
        ]
        if fresh:
            found.append(
                Cause(
                    "metadata.finalizers",
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new "
                    f"finalizers {fresh}",
                    "FieldValueForbidden",
                )
            )
    return found


def only_own(call: Call, wanted: Json) -> Json:
    """Return what of an apply its endpoint can change, so that nobody owns what it cannot."""
    wanted = copy.deepcopy(wanted)
    if call.sub == "status":
        head = {key: (wanted.get("metadata") or {}).get(key) for key in ("name", "namespace")}
        keys = ("apiVersion", "kind", "status")
        out: Json = {key: wanted[key] for key in keys if key in wanted}
        return {**out, "metadata": {key: value for key, value in head.items() if value}}
    if call.kind.status:
        wanted.pop("status", None)
    return wanted


def create(
    shared: Shared, call: Call, given: Json, *, entries: tuple[Owner, Entries] | None = None
) -> Json:
    """Keep a new object and return it as kept; ``entries`` are its owners where an apply makes it.

    Raises:
        StatusError: 400, 403, 404 (its namespace), 409 (it is there), 422.

    """
    obj = shaped(call, given)
    _new_meta(shared, call, obj)
    kind = call.kind
    if kind.status and kind.kind not in _WITH_STATUS:
        obj.pop("status", None)
    _first_status(shared, kind, obj)
    key = call.key(obj) if obj["metadata"].get("name") else ("", "")
    admit(shared, call, obj)
    _check(call, obj, None)
    if shared.store.get(kind.table, key) is not None:
        raise already_exists(kind.plural, kind.group, key[1])
    stored = kept(kind, obj)
    if entries is None:
        updated(kind, None, stored, Owner(call.manager, "Update", call.sub), shared.stamp())
    else:
        stamp(stored, entries[1], entries[0], None, shared.stamp())
    return _keep(shared, call, key, stored)


def _keep(shared: Shared, call: Call, key: tuple[str, str], stored: Json) -> Json:
    if call.kind.model:
        models.fill(
            call.kind.model if call.kind.group != "events.k8s.io" else "CoreV1Event", stored
        )
    if call.dry:
        stored["metadata"].setdefault("resourceVersion", "")
        return shown(call.kind, stored)
    return shown(call.kind, shared.store.put(call.kind.table, key, stored))


def _new_meta(shared: Shared, call: Call, obj: Json) -> None:
    meta = obj["metadata"]
    if meta.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    for key in (*_OWN_META, "managedFields", "selfLink"):
        meta.pop(key, None)
    if call.kind.namespaced:
        if meta.get("namespace", call.namespace) != call.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = call.namespace
    else:
        meta.pop("namespace", None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"][:58] + shared.suffix()
    meta["uid"] = shared.uid()
    meta["creationTimestamp"] = shared.stamp()
    if call.kind.generation or call.kind.custom:
        meta["generation"] = 1


def _first_status(shared: Shared, kind: Kind, obj: Json) -> None:
    match kind.kind if not kind.custom else "":
        case "Pod":
            status: Json = {"phase": "Pending", "qosClass": _quality(obj)}
            obj["status"] = status
            if (obj.get("spec") or {}).get("schedulingGates"):
                status["conditions"] = [
                    {
                        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                        "message": "Scheduling is blocked due to non-empty scheduling gates",
                        "lastTransitionTime": shared.stamp(),
                    }
                ]  # fmt: skip
        case "Namespace":
            obj["status"] = {"phase": "Active"}
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj[
                "metadata"
            ].get("name", "")
        case "Deployment" | "ReplicaSet" | "StatefulSet" | "Node" | "ResourceQuota":
            obj.setdefault("status", {})
        case _:
            pass


def _quality(pod: Json) -> str:
    containers = (pod.get("spec") or {}).get("containers") or []
    resources = [one.get("resources") or {} for one in containers]
    if not any(one.get("limits") or one.get("requests") for one in resources):
        return "BestEffort"
    whole = all({"cpu", "memory"} <= set(one.get("limits") or {}) for one in resources)
    same = all(one.get("limits") == one.get("requests") for one in resources)
    return "Guaranteed" if whole and same else "Burstable"


def change(
    shared: Shared,
    call: Call,
    make: Callable[[Json], Json],
    *,
    owner: Owner | None = None,
) -> Json:
    """Keep what ``make`` makes of an object, and return it as kept.

    ``make`` gets the object as ``call.kind`` shows it. A resourceVersion that it returns must be the
    present one.

    Raises:
        StatusError: 400, 404, 409 (it has changed since), 422.

    """
    kind, key = call.kind, call.key()
    old = shared.store.get(kind.table, key)
    if old is None:
        raise not_found(kind.plural, kind.group, call.name)
    given = make(shown(kind, copy.deepcopy(old)))
    managed = (given.get("metadata") or {}).pop("managedFields", None)
    obj = shaped(call, given)
    _same(call, obj, old)
    _only(call, obj, shown(kind, old))
    _count(kind, obj, shown(kind, old))
    admit(shared, call, obj, old)
    _check(call, obj, shown(kind, old))
    stored = kept(kind, obj)
    if owner is None:
        updated(kind, old, stored, Owner(call.manager, "Update", call.sub), shared.stamp())
    elif managed is not None:
        stored["metadata"]["managedFields"] = managed
    return _change(shared, call, key, stored, old)


def _change(shared: Shared, call: Call, key: tuple[str, str], stored: Json, old: Json) -> Json:
    kind = call.kind
    stored["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    if kind.model:
        models.fill("CoreV1Event" if kind.kind == "Event" else kind.model, stored)
    if _timeless(stored) == _timeless(old):
        return shown(kind, old)
    meta = stored["metadata"]
    over = meta.get("deletionTimestamp") and not meta.get("finalizers")
    if (
        over
        and not meta.get("deletionGracePeriodSeconds")
        and not (stored.get("spec") or {}).get("finalizers")
    ):
        if not call.dry:
            shared.store.drop(kind.table, key, stored)
        return shown(kind, stored)
    return _keep(shared, call, key, stored)


def _timeless(obj: Json) -> Json:
    """Return an object without the time of its owners: a write that changes only that is none."""
    meta = dict(obj["metadata"])
    meta["managedFields"] = [
        {k: v for k, v in one.items() if k != "time"} for one in meta.get("managedFields") or []
    ]
    return {**obj, "metadata": meta}


def _same(call: Call, obj: Json, old: Json) -> None:
    """Refuse an update of another object, or of one as it was before."""
    kind, meta, was = call.kind, obj["metadata"], old["metadata"]
    if meta.get("name", call.name) != call.name:
        raise bad_request(
            f"the name of the object ({meta.get('name')}) does not match the name on the URL "
            f"({call.name})"
        )
    if kind.namespaced and meta.get("namespace", call.namespace) != call.namespace:
        raise bad_request(
            f"the namespace of the object ({meta.get('namespace')}) does not match the namespace on the "
            f"URL ({call.namespace})"
        )
    if meta.get("uid", was["uid"]) != was["uid"]:
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {was['uid']}"
        raise conflict(kind.plural, kind.group, call.name, why)
    version = meta.get("resourceVersion", "")
    if version and version != was["resourceVersion"]:
        raise conflict(kind.plural, kind.group, call.name)
    meta["name"] = was["name"]
    if kind.namespaced:
        meta["namespace"] = was["namespace"]
    for key in (*_OWN_META, "generateName", "selfLink"):
        meta.pop(key, None)
        if key in was:
            meta[key] = was[key]


def _only(call: Call, obj: Json, old: Json) -> None:
    """Keep of a change what its endpoint can change: of ``/status`` the status, else all but it."""
    kind = call.kind
    if call.sub == "status":
        for key in set(obj) | set(old):
            if key not in {"status", "metadata", "apiVersion", "kind"}:
                obj.pop(key, None)
                if key in old:
                    obj[key] = copy.deepcopy(old[key])
        free = {"Pod", "Node"} if not kind.custom else set()
        if kind.kind not in free:
            obj["metadata"] = copy.deepcopy(old["metadata"])
    elif kind.status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = copy.deepcopy(old["status"])


def _count(kind: Kind, obj: Json, old: Json) -> None:
    """Count a change of what is wished for in ``metadata.generation``."""
    meta = obj["metadata"]
    if "generation" not in old["metadata"]:
        return
    if kind.custom:
        out = {"metadata", "apiVersion", "kind"} | ({"status"} if kind.status else set())
        changed = {k: v for k, v in obj.items() if k not in out} != {
            k: v for k, v in old.items() if k not in out
        }
    else:
        changed = obj.get("spec") != old.get("spec")
    meta["generation"] = old["metadata"]["generation"] + int(changed)


# Of these, too, an update says which version it knows.
_NEVER_BLIND = {"Lease", "PodDisruptionBudget", "CustomResourceDefinition", "Namespace"}


def _conditional(kind: Kind) -> bool:
    return kind.custom or kind.kind in _NEVER_BLIND


def update(shared: Shared, call: Call, given: Json) -> Json:
    """Replace an object (PUT).

    Raises:
        StatusError: as ``change``; 422 if a custom resource comes with no resourceVersion.

    """
    meta = given.get("metadata") or {}
    if _conditional(call.kind) and not meta.get("resourceVersion"):
        raise invalid(
            call.kind.kind,
            call.kind.group,
            call.name,
            [
                Cause(
                    "metadata.resourceVersion",
                    "Invalid value: 0: must be specified for an update",
                )
            ],
        )
    return change(shared, call, lambda _: given)


def refuse(call: Call, why: str) -> StatusError:
    return forbidden(call.kind.plural, call.kind.group, call.name, why)
