"""The ratio between prefill and decode: fixed, or a band."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from heteroscale.documents.fields import DocumentModel


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

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


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
