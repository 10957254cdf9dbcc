"""What all settings of adapters share: unknown keys are refused, keys in camelCase, durations as text."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from heteroscale_scheduler_adapters.port import SettingsError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
DAY = 86_400.0


def seconds(value: object) -> float:
    """Return seconds for ``300s``, ``1m30s``, ``250ms`` or a plain number.

    Raises:
        ValueError: it is no duration, or not between 0 and a day.

    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    else:
        parts = _PART.findall(str(value).strip())
        if not parts or "".join(number + unit for number, unit in parts) != str(value).strip():
            raise ValueError(f"{value!r} is no duration: write 30s, 1m30s or 250ms")
        found = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= found <= DAY:
        raise ValueError("a duration is between 0s and 24h")
    return found


_WRITTEN = WithJsonSchema({"type": ["string", "number"]})
Seconds = Annotated[float, BeforeValidator(seconds), _WRITTEN]
Positive = Annotated[float, BeforeValidator(seconds), Field(gt=0), _WRITTEN]


class Settings(BaseModel):
    """Base of all that a person writes for an adapter."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def complaint(where: str, error: ValidationError) -> SettingsError:
    """Return all that is wrong with settings as one error; each line names a field."""
    lines = [_line(where, one) for one in error.errors(include_url=False)]
    return SettingsError("\n".join(dict.fromkeys(lines)))


def _line(where: str, one: Any) -> str:
    path = where + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in one["loc"]
    )
    if one["type"] == "extra_forbidden":
        return f"{path}: there is no such field"
    if one["type"] == "missing":
        return f"{path}: this field is needed"
    return f"{path}: {str(one['msg']).removeprefix('Value error, ')}"
