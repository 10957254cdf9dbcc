"""Renewal: what is done about instances whose scheduler ends them at a known moment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration


class RenewalSpec(DocumentModel):
    """A successor is launched before an instance's end, and drained is only then; all without cooldowns.

    While both stand, the old one counts for no maximum, but its GPUs for `maxGpus` and all quotas.
    """

    enabled: bool = True
    """False: nothing is done before the end; what ended is replaced after it, with a gap."""
    ahead: Annotated[Duration, Field(gt=0)] | None = None
    """A successor is launched so long before the end. null: the measured start-up, plus `emptying`, the
    drain's `settle` and `grace`, and `margin`. Never before half of its life is over."""
    margin: Duration = 60.0
    """Added to what is measured: for clocks that differ, and launches that take longer than others."""
    emptying: Annotated[Duration, Field(gt=0)] = 120.0
    """So long, with `settle` and `grace`, before the end it is drained at the latest, whether or not a
    successor serves. A request that takes longer is cut by the end."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Of a role's instances at most this share, at least one, is renewed at once: where many end at the
    same moment, the first successors are launched earlier."""
