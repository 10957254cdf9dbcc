"""Counts by the clock (paper §3, the periodic policy)."""

from __future__ import annotations

from heteroscale.documents.fields import DocumentModel


class ScheduleSpec(DocumentModel):
    """Counts by the clock (paper §3, the periodic policy)."""
