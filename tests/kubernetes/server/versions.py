"""One object in the words of another version: custom resources, and the two groups of events."""

from __future__ import annotations

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.store import Table

_CORE_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_NEW_TO_CORE = {new: old for old, new in _CORE_TO_NEW.items()}
EVENTS: Table = ("", "events")


def shown(kind: Kind, obj: Json) -> Json:
    """Return a stored object as ``kind`` shows it; the object given may be changed or kept."""
    if kind.group == "events.k8s.io":
        obj = {_CORE_TO_NEW.get(key, key): value for key, value in obj.items()}
    return {"kind": kind.kind, "apiVersion": kind.api_version, **_rest(obj)}


def kept(kind: Kind, obj: Json) -> Json:
    """Return an object as it is stored."""
    if kind.group == "events.k8s.io":
        obj = {_NEW_TO_CORE.get(key, key): value for key, value in obj.items()}
        return {"kind": "Event", "apiVersion": "v1", **_rest(obj)}
    return {"kind": kind.kind, "apiVersion": kind.api_version, **_rest(obj)}


def _rest(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
