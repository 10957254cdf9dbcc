"""One ScaledService as it was read, and the service that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from heteroscale.documents import DocumentError, Violation, write_document
from heteroscale_coordinator.edge.apply import Parsed, parse_services
from heteroscale_coordinator.edge.cluster_api import Address, Object
from heteroscale_coordinator.edge.crd import words


class Key(NamedTuple):
    """Which object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Say it as people write it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Told:
    """What one object says. Its service has its name, in whatever namespace it is."""

    key: Key
    uid: str
    generation: int
    revision: str
    created: str
    owns: bool
    """It bears our finalizer: the service is its own."""
    deleting: bool
    keep: bool
    """Deleted, it leaves the instances as they are."""
    takes_over: bool
    finalizers: tuple[str, ...]
    thing: Object

    @property
    def name(self) -> str:
        """The service's name."""
        return self.key.name

    @property
    def status(self) -> Mapping[str, Any]:
        """What was last told of it."""
        return _map(self.thing.get("status"))

    @property
    def address(self) -> Address:
        """Where it is."""
        return at(self.key.namespace, self.key.name)


def at(namespace: str = "", name: str = "", subresource: str = "") -> Address:
    """Return the address of one object, or of all."""
    return Address(words.API_VERSION, words.KIND, words.PLURAL, namespace, name, subresource)


def read(thing: Object) -> Told:
    """Return what an object says; whatever is missing is as if it were empty."""
    meta = _map(thing.get("metadata"))
    notes = _map(meta.get("annotations"))
    finalizers = tuple(str(one) for one in meta.get("finalizers") or ())
    return Told(
        key=Key(str(meta.get("namespace") or ""), str(meta.get("name") or "")),
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 0),
        revision=str(meta.get("resourceVersion") or ""),
        created=str(meta.get("creationTimestamp") or ""),
        owns=words.FINALIZER in finalizers,
        deleting=bool(meta.get("deletionTimestamp")),
        keep=notes.get(words.ON_DELETE) == "keep",
        takes_over=notes.get(words.TAKE_OVER) == "true",
        finalizers=finalizers,
        thing=thing,
    )


def parse(told: Told) -> Parsed:
    """Return the service that an object asks for, checked as ``heteroscale apply`` checks a file.

    Raises:
        DocumentError: with the path of each field that is wrong.

    """
    document = {
        "apiVersion": "heteroscale/v1",
        "kind": "Service",
        "metadata": {"name": told.name},
        "spec": told.thing.get("spec") or {},
    }
    try:
        text = write_document(document)
    except ValueError as error:
        raise DocumentError([Violation(str(told.key), 1, "spec", str(error))]) from error
    (parsed,) = parse_services(text, str(told.key))
    return parsed


def violations(error: DocumentError) -> str:
    """Return what is wrong without lines: an object has none."""
    return "; ".join(
        f"{one.field}: {one.message}" if one.field else one.message for one in error.violations
    )


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
