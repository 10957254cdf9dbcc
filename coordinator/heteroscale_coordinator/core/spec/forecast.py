"""A floor under the counts from the demand that is to be expected."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class ForecastSpec(DocumentModel):
    """A floor under the counts from the demand that is to be expected."""
