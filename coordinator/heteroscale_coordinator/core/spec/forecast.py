"""A floor under the counts from the demand that is to be expected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heteroscale.documents.fields import DocumentModel


class ForecastSpec(DocumentModel):
    """A floor under the counts from the demand that is to be expected; it only ever raises.

    Without a model that beats the last value it holds what was last seen, and the band alone adds.
    """

    enabled: bool = False
    """Whether the forecast is heard. It is kept and backtested in any case."""
    band: bool = True
    """Whether the error band is added: what the forecast fell short by, in its own past. It serves
    more requests on restless traffic, and costs some GPU-hours there."""
    quantile: Annotated[float, Field(ge=0.5, le=0.99)] = 0.5
    """Share of the past that the band would have covered: 0.5 is the highest demand that is as likely
    as not. Higher is safer and dearer."""
    max_raise: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Most that trend, season and band together may ask for beyond the demand of now, as a share."""
    seasons: tuple[Literal["day", "week"], ...] = ("day", "week")
    """Courses that come again and may be used once they beat the last value."""
