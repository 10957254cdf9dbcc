"""When KV transfer is near its limit."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class TransferSpec(DocumentModel):
    """When KV transfer is near its limit."""
