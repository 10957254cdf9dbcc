"""One more signal that sizes a role in proportion (paper §3)."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class SignalSpec(DocumentModel):
    """One more signal that sizes a role in proportion (paper §3)."""
