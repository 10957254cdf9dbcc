"""From the YAML a person sends to specifications: all documents are right, or none is taken."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.documents import DocumentError, Violation, read_documents, write_document
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec


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
        found.append(Parsed(name, service.spec, canonical(service)))
    if not found and not wrong:
        wrong.append(Violation(file_name, 1, "", "holds no document; one of kind Service is due"))
    if wrong:
        raise DocumentError(wrong)
    return found


def canonical(service: ServiceDocument) -> str:
    """Return the document as YAML: keys in the order of the schema, defaults left out."""
    return write_document(service.document())
