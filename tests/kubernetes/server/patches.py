"""PATCH in its four kinds, on objects and on their subresources."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

from tests.kubernetes.server import writes
from tests.kubernetes.server.calls import Call, Shared, truth
from tests.kubernetes.server.errors import Json, StatusError, bad_request, not_found
from tests.kubernetes.server.patch import managed, plain
from tests.kubernetes.server.patch.managed import Owner
from tests.kubernetes.server.patch.strategic import strategic

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def accepted(call: Call) -> list[str]:
    """Return the kinds of patch that a kind takes."""
    return [JSON_PATCH, MERGE, APPLY] if call.kind.custom else [JSON_PATCH, MERGE, STRATEGIC, APPLY]


def decoded(call: Call, content: str, body: bytes) -> Any:
    """Return the patch.

    Raises:
        StatusError: 415 for a kind of patch not taken here, 400 for one that cannot be read.

    """
    if content not in accepted(call):
        raise StatusError(
            415,
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted(call)),
        )
    try:
        return yaml.safe_load(body) if content == APPLY else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"error decoding patch: {error}") from error


def maker(call: Call, content: str, patch: Any) -> Callable[[Json], Json]:
    """Return what a patch, not an apply, makes of an object."""

    def make(old: Json) -> Json:
        if content == JSON_PATCH:
            made = plain.json_patch(old, patch)
        elif not isinstance(patch, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal array into map")
        elif content == MERGE:
            made = plain.merge(old, patch)
        else:
            made = strategic(call.kind.kind, old, patch)
        if not isinstance(made, dict):
            raise bad_request("the patch does not leave an object")
        return made

    return make


def patch_object(shared: Shared, call: Call, content: str, body: bytes) -> tuple[Json, bool]:
    """Patch an object or its status; returns it, and whether an apply has made it.

    Raises:
        StatusError: 400, 404, 409, 415, 422.

    """
    patch = decoded(call, content, body)
    if content == APPLY:
        return apply(shared, call, patch)
    if call.query.get("force"):
        raise bad_request("force: Forbidden: may not be specified for non-apply patch")
    return writes.change(shared, call, maker(call, content, patch)), False


def apply(shared: Shared, call: Call, wanted: Any) -> tuple[Json, bool]:
    """Apply (server-side): create, or change with what the manager owns."""
    owner, force = owner_of(call), truth(call.query, "force")
    _check(call, wanted)
    kind = call.kind
    wanted = writes.only_own(call, wanted)
    stored = shared.store.get(kind.table, call.key())
    if stored is None:
        if call.sub:
            raise not_found(kind.plural, kind.group, call.name)
        wanted.setdefault("metadata", {}).setdefault("name", call.name)
        made, entries = managed.applied(kind, None, wanted, owner, force=force)
        return writes.create(shared, call, made, entries=(owner, entries)), True

    def make(old: Json) -> Json:
        version = (wanted.get("metadata") or {}).get("resourceVersion")
        made, entries = managed.applied(kind, old, wanted, owner, force=force)
        made["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        managed.stamp(made, entries, owner, old, shared.stamp())
        return made

    return writes.change(shared, call, make, owner=owner), False


def owner_of(call: Call) -> Owner:
    """Return who applies.

    Raises:
        StatusError: 422 if nobody is named.

    """
    name = call.query.get("fieldManager", "")
    if not name:
        why = "Required value: is required for apply patch"
        text = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {why}'
        details = {
            "group": "meta.k8s.io", "kind": "PatchOptions",
            "causes": [{"reason": "FieldValueRequired", "message": why, "field": "fieldManager"}],
        }  # fmt: skip
        raise StatusError(422, text, details=details)
    return Owner(name, "Apply", call.sub)


def _check(call: Call, wanted: Any) -> None:
    if not isinstance(wanted, dict):
        raise bad_request("error decoding YAML: json: cannot unmarshal into Go value of type map")
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    named = (wanted.get("apiVersion"), wanted.get("kind"))
    if named != (call.kind.api_version, call.kind.kind):
        raise bad_request(
            f"invalid object type: {named[0]}, Kind={named[1]}: expected {call.kind.api_version}, "
            f"Kind={call.kind.kind}"
        )
    name = (wanted.get("metadata") or {}).get("name")
    if name and name != call.name:
        raise bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({call.name})"
        )
