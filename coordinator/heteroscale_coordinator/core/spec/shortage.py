"""What a service gives to services of higher priority when GPUs are short."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration


class ShortageSpec(DocumentModel):
    """What a service gives to services of higher priority when GPUs are short, and what it asks."""

    patience: Duration = 60.0
    """As the one in need: a step must have had no place so long before others are asked."""
    hourly: Annotated[float, Field(ge=0, le=1)] = 0.25
    """As the one that gives: largest share of its GPUs given within an hour, at least one instance of
    each role. 0: it never gives. Large values let a high service's short peak empty a low one."""
    observation: Duration = 15.0
    """As the one that gives: withdrawn so long, then drained; instead of `policy.observation`."""
