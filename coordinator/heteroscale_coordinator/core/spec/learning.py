"""How a target is learned."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class LearningSpec(DocumentModel):
    """How a target is learned."""
