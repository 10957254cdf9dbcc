"""The ratio between prefill and decode: fixed, or a band."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.names import Fraction

_SLACK = 1e-9
"""A third of three is one: floating point must not push a product over a whole number."""


class Limits(NamedTuple):
    """Fewest and most prefill instances beside a number of decode instances."""

    low: int
    high: int


def _parse_ratio(value: Any) -> Any:
    if isinstance(value, str):
        left, colon, right = value.partition(":")
        try:
            quotient = float(left) / float(right) if colon else float(left)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is no ratio: write 1:2 (prefill:decode) or 0.5") from None
        return {"min": quotient, "max": quotient}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"min": value, "max": value}
    return value


class RatioSpec(DocumentModel):
    """Prefill instances per decode instance. `min` = `max` is the paper's fixed ratio."""

    min: PositiveFloat
    """Fewest prefill instances per decode instance."""
    max: PositiveFloat
    """Most of them; prefill follows its own demand between the two."""
    adapt: bool = False
    """Hold one ratio inside the band, as if it were fixed, and move it slowly to what the load asks
    for. Without it prefill follows its own demand inside the band at once."""
    adapt_every: Duration = 1800.0
    """`adapt`: the advice must have stood so long, and so long passes from one move to the next."""
    adapt_step: Fraction = 0.10
    """`adapt`: largest move, as a share of the ratio held."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.adapt and self.min == self.max:
            raise ValueError(f"adapt needs a band to move in: give a max above min {self.min}")
        return self

    def limits(self, decode: int) -> Limits:
        """Return the limits of prefill beside ``decode`` instances: see ``core.policy.ratio``."""
        low = max(1, math.ceil(self.min * decode - _SLACK))
        return Limits(low, max(low, math.floor(self.max * decode + _SLACK)))

    def turned(self) -> RatioSpec:
        """Return the ratio the other way round: ffn for each attention, of attention for each ffn."""
        return RatioSpec(min=1 / self.max, max=1 / self.min)


_RatioText = Annotated[
    str,
    Field(
        pattern=r"^\d+(\.\d+)?(:\d+(\.\d+)?)?$",
        description="Prefill:decode such as 1:2, or 0.5.",
    ),
]
Ratio = Annotated[
    RatioSpec,
    BeforeValidator(_parse_ratio, json_schema_input_type=_RatioText | PositiveFloat | RatioSpec),
]
