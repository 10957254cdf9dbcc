"""Kinds of value that several parts of a specification share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Label = Annotated[str, Field(min_length=1, max_length=253)]
"""Name of something that others name, e.g. of a physical cluster."""
Fraction = Annotated[float, Field(gt=0, le=1)]
