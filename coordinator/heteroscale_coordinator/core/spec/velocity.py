"""Token velocity: prefill by what arrives, decode by what is held (TokenScale)."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class VelocitySpec(DocumentModel):
    """Token velocity: prefill by what arrives, decode by what is held (TokenScale)."""
