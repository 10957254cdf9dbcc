"""Who starts and stops the instances of a service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration

Positive = Annotated[Duration, Field(gt=0)]


class ActuationSpec(DocumentModel):
    """Who starts and stops the instances, and how soon what is asked for should be there."""

    by: Literal["coordinator", "external"] = "coordinator"
    """`external`: KEDA or an HPA does, by the counts that it reads here, and the coordinator launches,
    withdraws and stops nothing. Both roles are still decided together."""
    follow_within: Positive = 300.0
    """External: counts that differ so long from what is asked for are said aloud. Shorter than a pod's
    start says it at every scale-out."""
