"""The documents people write: YAML read strictly, every complaint with file, line and field.

Agent configuration and service specifications are both read here, so that a mistake looks the same
everywhere. What the fields mean is said by the pydantic models of each house.
"""

from heteroscale.documents.fields import DocumentModel, Duration, format_duration, parse_duration
from heteroscale.documents.loader import write_document
from heteroscale.documents.reader import (
    Document,
    DocumentError,
    Violation,
    read_documents,
    read_file,
    read_one,
)

__all__ = [
    "Document",
    "DocumentError",
    "DocumentModel",
    "Duration",
    "Violation",
    "format_duration",
    "parse_duration",
    "read_documents",
    "read_file",
    "read_one",
    "write_document",
]
