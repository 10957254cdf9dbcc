"""What users were promised, and what latency does to the counts."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Fraction


class SloSpec(DocumentModel):
    """What users were promised; the latency guard watches it. Unset: not watched."""

    ttft: Duration | None = None
    """Mean time to first token: at the routers, where all of the service's tell it, else at prefill."""
    tbt: Duration | None = None
    """Mean time between tokens."""


class TierSpec(DocumentModel):
    """How far above the SLO, and what one step then adds."""

    breach: Annotated[float, Field(gt=0)]
    """A mean above this multiple of the SLO, over the short window."""
    step: Fraction
    """Share of the in-service count when the breach began that one step adds; at least one instance."""


class GuardSpec(DocumentModel):
    """Negative feedback on latency (paper §3): a net under what drives the service, or the driver itself.

    A single `breach` and `step`, without `tiers`, are read as one tier.
    """

    tiers: tuple[TierSpec, ...] = (TierSpec(breach=1.1, step=0.10),)
    """From mild to severe; the severest that is exceeded counts. The paper's example is two:
    `[{breach: 1.1, step: 0.1}, {breach: 1.2, step: 0.2}]`. Empty: no guard."""
    below: Fraction = 0.90
    """With `driver: latency`: in when every mean is below this share of its SLO."""
    step_in: Fraction = 0.05
    """With `driver: latency`: share of the in-service count that one scale-in takes; at least one."""
    startup: Duration = 120.0
    """Start-up time assumed until some instances have been measured (then their p90)."""

    @model_validator(mode="before")
    @classmethod
    def _one_tier(cls, data: Any) -> Any:
        """Read what was written before there were tiers."""
        if not isinstance(data, dict) or not {"breach", "step"} & set(data):
            return data
        if "tiers" in data:
            raise ValueError(
                "name either `tiers` or the short form of one, `breach` and `step`: move them into "
                "tiers: [{breach: 1.1, step: 0.1}]"
            )
        rest = {name: value for name, value in data.items() if name not in ("breach", "step")}
        tier = {"breach": data.get("breach", 1.1), "step": data.get("step", 0.10)}
        return {**rest, "tiers": (tier,)}

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for mild, severe in pairwise(self.tiers):
            if severe.breach <= mild.breach or severe.step < mild.step:
                raise ValueError(
                    f"tiers go from mild to severe: breach {severe.breach:g}, step {severe.step:g} "
                    f"cannot follow breach {mild.breach:g}, step {mild.step:g}"
                )
        return self

    def tier_of(self, share: float) -> TierSpec | None:
        """Return the severest tier that a mean of ``share`` × SLO exceeds; None when none."""
        exceeded = [tier for tier in self.tiers if share > tier.breach]
        return exceeded[-1] if exceeded else None
