"""From the YAML a person sends to specifications: all documents are right, or none is taken."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.documents import DocumentError, Violation, read_documents, write_document
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec
from heteroscale_coordinator.zones import UnknownZoneError, resolve


@dataclass(frozen=True, slots=True)
class Parsed:
    """A service as written, and its text in canonical form."""

    name: str
    spec: ServiceSpec
    document: str


def parse_services(text: str, file_name: str) -> list[Parsed]:
    """Return the services of a YAML text.

    Raises:
        DocumentError: with every violation in every document.

    """
    found: list[Parsed] = []
    wrong: list[Violation] = []
    for document in read_documents(text, file_name):
        try:
            service = document.parse(ServiceDocument)
        except DocumentError as error:
            wrong.extend(error.violations)
            continue
        name = service.metadata.name
        if any(name == other.name for other in found):
            path = ("metadata", "name")
            wrong.append(document.violation(path, f"service {name!r} is in this text twice"))
        if (zone := _zone_trouble(service.spec)) is not None:
            wrong.append(document.violation(("spec", "policy", "schedule", "timeZone"), zone))
        found.append(Parsed(name, service.spec, canonical(service)))
    if not found and not wrong:
        wrong.append(Violation(file_name, 1, "", "holds no document; one of kind Service is due"))
    if wrong:
        raise DocumentError(wrong)
    return found


def _zone_trouble(spec: ServiceSpec) -> str | None:
    """Return why the schedule's time zone cannot be read; None when it can, or none is named."""
    if spec.policy.schedule is None:
        return None
    try:
        resolve(spec.policy.schedule.time_zone, 0.0)
    except UnknownZoneError as error:
        return str(error)
    return None


def canonical(service: ServiceDocument) -> str:
    """Return the document as YAML: keys in the order of the schema, defaults left out."""
    return write_document(service.document())
