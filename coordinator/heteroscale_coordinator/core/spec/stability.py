"""What keeps counts from flapping and launches from being tried in vain."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class StabilitySpec(DocumentModel):
    """What keeps counts from flapping and launches from being tried in vain."""
