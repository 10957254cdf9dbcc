"""How targets are learned, where a role says ``target: learn`` or the service only advises."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Fraction


class LearningSpec(DocumentModel):
    """How the largest tokens/s per instance at which the SLO held is found. It never acts by itself."""

    enabled: bool = True
    """Learn while the service is advisory, or a role says `target: learn`."""
    window: Annotated[Duration, Field(ge=10)] = 60.0
    """Length of one observation; the whole of it must have been heard."""
    windows: Annotated[int, Field(ge=1, le=8)] = 5
    """Observations that must have reached a rate before it is a target: one alone may be chance."""
    near: Fraction = 0.8
    """A latency from this share of its SLO on is near the limit; a rate that never came so far is only
    a lower bound."""
