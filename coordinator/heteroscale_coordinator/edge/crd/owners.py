"""Who owns the name of a service: of two objects one, and of an object and a person with a command line.

Names of services are the coordinator's, not a namespace's: agents, gates and metrics know no namespace.
The owner is whoever bears the finalizer; without one the oldest object. What was applied by other means
and differs stays as it is until its owner deletes it, or the object says that it takes it over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heteroscale_coordinator.core.model import Service
from heteroscale_coordinator.core.spec import ServiceSpec
from heteroscale_coordinator.edge.crd import words
from heteroscale_coordinator.edge.crd.objects import Key, Told


def owners(objects: Iterable[Told]) -> dict[str, Told]:
    """Return by service the one object that it may belong to."""
    found: dict[str, Told] = {}
    for told in sorted(objects, key=_rank):
        if told.owns or not told.deleting:
            found.setdefault(told.name, told)
    return found


def _rank(told: Told) -> tuple[bool, str, Key]:
    return (not told.owns, told.created, told.key)


def rival(told: Told, owner: Told) -> str:
    """Return what the object that does not own the name is told."""
    why = "has it already" if owner.owns else "is the older one"
    return (
        f"the service {told.name} belongs to {words.KIND} {owner.key}, which {why}: names of services "
        f"are the coordinator's, whatever the namespace. Rename this one, or delete {owner.key}"
    )


def stranger(told: Told, spec: ServiceSpec, services: Mapping[str, Service]) -> str:
    """Return why an object that owns nothing yet cannot have its service; empty: it can.

    A service that says the same already was brought here by its file: nothing is lost by taking it.
    """
    present = services.get(told.name)
    if present is None or told.owns or told.takes_over or present.spec == spec:
        return ""
    if present.deleting:
        return (
            f"the service {told.name}, applied by other means, is being deleted: it is taken then"
        )
    return (
        f"the service {told.name} was applied by other means (heteroscale apply) and says something "
        f"else; it wins. To take it over: kubectl annotate {words.SHORT} {told.name} "
        f"{words.TAKE_OVER}=true; or heteroscale delete service {told.name}"
    )
