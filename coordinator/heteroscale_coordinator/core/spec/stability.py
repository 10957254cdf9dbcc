"""What keeps counts from flapping and launches from being tried in vain."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from heteroscale.documents.fields import DocumentModel, Duration

Factor = Annotated[float, Field(ge=1)]
Positive = Annotated[Duration, Field(gt=0)]


class FlapSpec(DocumentModel):
    """The flap guard: cooldown × min(most, growth ^ max(0, reversals in the window − allowed))."""

    window: Duration = 1800.0
    """A change the other way so soon after the last one is a reversal, and is remembered so long.
    0s switches the guard off."""
    allowed: NonNegativeInt = 3
    """Reversals within the window that lengthen nothing. Too few slows down a true day and night."""
    growth: Factor = 1.5
    """Each further reversal multiplies the cooldowns by this."""
    most_in: Factor = 4.0
    """Largest factor on `cooldownIn`. Costs GPU-hours while the load does swing."""
    most_out: Factor = 2.0
    """Largest factor on `cooldownOut`. The latency guard is not held up by it."""


class BreakerSpec(DocumentModel):
    """The circuit breaker on launches, of one service, for each node, GPU type and sub-cluster."""

    failures: PositiveInt = 3
    """Launches failed in a row that open it: at a node; for a GPU type or a sub-cluster, on so many
    different nodes."""
    open: Positive = 60.0
    """Closed to launches so long, doubled each time a trial fails. Then one trial is let through."""
    most_open: Positive = 900.0
    """Longest time between two trials."""
    proof: Duration = 60.0
    """An instance that has served so long closes it; one that dies sooner is a failed launch."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most_open < self.open:
            raise ValueError(f"mostOpen {self.most_open:g}s is shorter than open {self.open:g}s")
        return self


class StabilitySpec(DocumentModel):
    """What keeps counts from flapping and launches from being tried in vain."""

    flap: FlapSpec = FlapSpec()
    """Reversals lengthen cooldowns."""
    breaker: BreakerSpec = BreakerSpec()
    """Failed launches close a node or a GPU type for a while."""
