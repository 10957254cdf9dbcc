"""How Ready prefill and decode are kept in step, and what the ratio learns."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class RatioGuardSpec(DocumentModel):
    """How Ready prefill and decode are kept in step, and what the ratio learns."""
