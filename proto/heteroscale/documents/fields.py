"""Field types of the documents: durations as Kubernetes users write them, and the strict base model."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_SECONDS = 100 * 365 * 86_400.0
"""A hundred years: longer ones are slips of the hand, and do not fit the wire."""
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Return seconds for ``300s``, ``1m30s``, ``250ms``, or a plain number of seconds.

    Raises:
        ValueError: the text is no duration, or is negative, not finite or absurdly long.

    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is text such as 300s, 1m30s or 250ms")  # noqa: TRY004
    if isinstance(value, int | float):
        result = float(value) if abs(value) <= MAX_SECONDS else math.inf
    else:
        parts = _PART.findall(value.strip())
        if not parts or "".join(n + u for n, u in parts) != value.strip():
            raise ValueError(f"{value!r} is no duration: write 300s, 1m30s or 250ms")
        result = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= result <= MAX_SECONDS:
        raise ValueError(f"a duration is between 0s and {MAX_SECONDS / 86_400:.0f}d")
    return result


def format_duration(seconds: float) -> str:
    """Return ``250ms``, ``90s`` or ``1h``, whichever says ``seconds`` shortly and exactly."""
    for unit in ("h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    if seconds and seconds < 1:
        thousandths = f"{seconds * 1000:g}ms"
        # Very short ones print as 1e-05, which is no duration, and long fractions are rounded.
        if "e" not in thousandths and parse_duration(thousandths) == seconds:
            return thousandths
    return f"{Decimal(repr(float(seconds))).normalize():f}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$",
            "description": "A duration such as 300s, 1m30s or 250ms; a plain number is seconds.",
        }
    ),
]
"""Seconds, as a float; written ``300s``, also in JSON."""


class DocumentModel(BaseModel):
    """Base of everything a person writes: frozen, unknown keys refused, keys in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def document(self) -> dict[str, Any]:
        """Return plain data in the form it was written in, without what equals its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
