"""Get and list, with pages and with revisions."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable

from tests.kubernetes.server import selectors
from tests.kubernetes.server.calls import Call, Shared
from tests.kubernetes.server.errors import Json, StatusError, bad_request, not_found
from tests.kubernetes.server.versions import shown


def get(shared: Shared, call: Call) -> Json:
    """Return one object.

    Raises:
        StatusError: 404.

    """
    obj = shared.store.get(call.kind.table, call.key())
    if obj is None:
        raise not_found(call.kind.plural, call.kind.group, call.name)
    return shown(call.kind, obj)


def matcher(call: Call) -> Callable[[Json], bool]:
    """Return whether an object is of those that the namespace and the selectors of a call mean."""
    by_label = selectors.labels(call.query.get("labelSelector", ""))
    by_field = selectors.fields(
        call.query.get("fieldSelector", ""), call.kind.fields, call.kind.kind
    )

    def means(obj: Json) -> bool:
        meta = obj["metadata"]
        if call.namespace and call.kind.namespaced and meta.get("namespace") != call.namespace:
            return False
        if call.name and meta["name"] != call.name:
            return False
        return by_label(meta.get("labels") or {}) and by_field(shown(call.kind, obj))

    return means


def too_new(wanted: int, current: int) -> StatusError:
    """Return the error of who asks for a revision that is not there yet."""
    return StatusError(
        504,
        f"Too large resource version: {wanted}, current: {current}",
        "Timeout",
        {
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
        {"Retry-After": "1"},
    )


def revision(call: Call, default: int = 0) -> int:
    """Return ``resourceVersion`` of a query as a number.

    Raises:
        StatusError: 400 for what is none.

    """
    text = call.query.get("resourceVersion") or str(default)
    if not text.isdigit():
        raise bad_request(f"invalid resource version {json.dumps(text)}: strconv.ParseUint")
    return int(text)


def _start(shared: Shared, call: Call) -> tuple[int, tuple[str, str] | None]:
    """Return the revision to list at, and after which key."""
    token, match = call.query.get("continue", ""), call.query.get("resourceVersionMatch", "")
    if token:
        if call.query.get("resourceVersion"):
            raise bad_request("specifying resource version is not allowed when using continue")
        try:
            place = json.loads(base64.urlsafe_b64decode(token))
            return int(place["rv"]), (place["ns"], place["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise bad_request("continue key is not valid") from error
    wanted = revision(call)
    if match and not call.query.get("resourceVersion"):
        raise bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match not in {"", "Exact", "NotOlderThan"}:
        raise bad_request(f'resourceVersionMatch: Unsupported value: "{match}"')
    if wanted > shared.store.revision:
        raise too_new(wanted, shared.store.revision)
    if match == "Exact":
        if not wanted:
            raise bad_request('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
        return wanted, None
    return shared.store.revision, None


def listing(shared: Shared, call: Call) -> Json:
    """Return a list object.

    Raises:
        StatusError: 400 for a bad query, 410 for a page whose revision is compacted.

    """
    at, after = _start(shared, call)
    means = matcher(call)
    found = [obj for obj in shared.store.at(call.kind.table, at) if means(obj)]
    if after is not None:
        found = [obj for obj in found if _place(obj) > after]
    limit = int(call.query.get("limit") or 0)
    meta: Json = {"resourceVersion": str(at)}
    if limit and len(found) > limit:
        meta["remainingItemCount"] = len(found) - limit
        if call.query.get("labelSelector") or call.query.get("fieldSelector"):
            del meta["remainingItemCount"]
        found = found[:limit]
        namespace, name = _place(found[-1])
        token = json.dumps({"rv": at, "ns": namespace, "name": name})
        meta["continue"] = base64.urlsafe_b64encode(token.encode()).decode()
    items = [_item(call, obj) for obj in found]
    return {
        "kind": f"{call.kind.kind}List",
        "apiVersion": call.kind.api_version,
        "metadata": meta,
        "items": items,
    }


def _place(obj: Json) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _item(call: Call, obj: Json) -> Json:
    """Return an item of a list: those of built-in kinds do not say what they are."""
    item = shown(call.kind, copy.deepcopy(obj))
    if not call.kind.custom:
        item.pop("kind", None)
        item.pop("apiVersion", None)
    return item
