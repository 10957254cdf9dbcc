"""What users were promised, and what latency does to the counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Fraction


class SloSpec(DocumentModel):
    """What users were promised; the latency guard watches it. Unset: not watched."""

    ttft: Duration | None = None
    """Mean time to first token: at the routers, where all of the service's tell it, else at prefill."""
    tbt: Duration | None = None
    """Mean time between tokens."""


class GuardSpec(DocumentModel):
    """The latency safety net (paper §3, negative feedback). One tier."""

    breach: Annotated[float, Field(gt=0)] = 1.1
    """A mean above this multiple of the SLO, over the short window, is a breach."""
    step: Fraction = 0.10
    """Share of the in-service count when the breach began that one step adds; at least one."""
    startup: Duration = 120.0
    """Start-up time assumed until some instances have been measured (then their p90)."""
