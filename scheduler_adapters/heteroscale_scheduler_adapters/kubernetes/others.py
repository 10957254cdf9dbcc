"""Who else has a hand on the number of an object's pods. It is told and not fought."""

from __future__ import annotations

from collections.abc import Iterable

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.objects import (
    items,
    labels,
    name,
    namespace,
    part,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.record import Record
from heteroscale_scheduler_adapters.kubernetes.resources import Object

_SCALED_OBJECT = "scaledobject.keda.sh/name"


def hands(
    thing: Object, replicas: int, record: Record | None, autoscalers: Iterable[Object]
) -> list[str]:
    """Return why the number of an object's pods is not ours to set, in words; empty: it is.

    Args:
        thing: The object.
        replicas: What its scale subresource says now.
        record: What we wrote on it; None: nothing yet.
        autoscalers: All HorizontalPodAutoscalers of its namespace.

    """
    where = title(thing)
    found = [_autoscaled(where, one) for one in autoscalers if _targets(one, thing)]
    found += [
        f"{where}: {who} sets spec.replicas by server-side apply; leave the field out there"
        for who in _setters(thing, "Apply")
    ]
    if record is not None and replicas not in (record.replicas, record.was):
        by = " and ".join(_setters(thing, "Update")) or "somebody else"
        found.append(
            f"{where}: spec.replicas is {replicas}, set by {by}, and {record.replicas} by us;"
            f" set it back to {record.replicas}, or allow us with force: true in its template"
        )
    return found


def title(thing: Object) -> str:
    """Return how an object is named to people."""
    return f"{text(thing, 'kind')} {namespace(thing)}/{name(thing)}"


def _targets(autoscaler: Object, thing: Object) -> bool:
    target = part(autoscaler, "spec", "scaleTargetRef")
    group = text(target, "apiVersion").rpartition("/")[0]
    return (
        text(target, "kind") == text(thing, "kind")
        and text(target, "name") == name(thing)
        and namespace(autoscaler) == namespace(thing)
        and group == text(thing, "apiVersion").rpartition("/")[0]
    )


def _autoscaled(where: str, one: Object) -> str:
    made = labels(one).get(_SCALED_OBJECT)
    by = f"KEDA's ScaledObject {namespace(one)}/{made}" if made else ""
    by = by or f"the HorizontalPodAutoscaler {namespace(one)}/{name(one)}"
    return f"{where}: {by} scales it too; delete it, or pause it, before it is scaled here"


def _setters(thing: Object, operation: str) -> list[str]:
    """Return the field managers that own ``spec.replicas`` by this operation, without us."""
    found = []
    for entry in items(thing, "metadata", "managedFields"):
        owns = "f:replicas" in part(entry, "fieldsV1", "f:spec")
        other = text(entry, "manager") != names.MANAGER
        if owns and other and text(entry, "operation") == operation:
            found.append(text(entry, "manager") or "an unnamed manager")
    return sorted(set(found))
