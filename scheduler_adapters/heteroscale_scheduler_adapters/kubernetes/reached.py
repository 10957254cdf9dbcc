"""Which pods a Service sends traffic to, as its EndpointSlices say."""

from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes.objects import (
    items,
    labels,
    name,
    namespace,
    part,
    text,
)
from heteroscale_scheduler_adapters.kubernetes.resources import Object

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of a slice: whose it is."""


class Reached:
    """The slices of all Services that are followed."""

    def __init__(self) -> None:
        self._slices: dict[str, tuple[str, frozenset[str]]] = {}
        """By slice: its Service, and the pods that it sends to; all as ``namespace/name``."""

    def put(self, thing: Object) -> set[str]:
        """Take in a slice, and return the pods of which it says something else than before."""
        space = namespace(thing)
        pods = frozenset(
            f"{space}/{text(target, 'name')}"
            for one in items(thing, "endpoints")
            if part(one, "conditions").get("ready") is not False  # not said: as if it were
            if text(target := part(one, "targetRef"), "kind") == "Pod"
        )
        return self._set(thing, (f"{space}/{labels(thing).get(SERVICE_NAME, '')}", pods))

    def drop(self, thing: Object) -> set[str]:
        """Take out a slice that is gone, and return the pods of which it said something."""
        return self._set(thing, None)

    def _set(self, thing: Object, now: tuple[str, frozenset[str]] | None) -> set[str]:
        key = f"{namespace(thing)}/{name(thing)}"
        before = self._slices.pop(key, None)
        if now is not None:
            self._slices[key] = now
        old = before[1] if before else frozenset()
        new = now[1] if now else frozenset()
        return set(old ^ new)

    def sends(self, service: str, pod: str) -> bool | None:
        """Return whether a Service sends to a pod; None: it has no slice, so nobody knows."""
        told = [pods for of, pods in self._slices.values() if of == service]
        return any(pod in pods for pods in told) if told else None
