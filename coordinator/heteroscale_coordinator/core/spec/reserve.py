"""How much is kept ready for demand that rises while instances start."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents.fields import DocumentModel, Duration


class ReserveSpec(DocumentModel):
    """Supply beyond the demand of now, as large as demand has lately risen within a start-up time.

    `reserve = min(most × mean, deviations × √(mean of rise²))`, where a rise is what the mean over
    `windowIn` gained in one start-up time (p90, measured); falls count as 0, jumps as half of what
    was before at most. Steady demand costs nothing; demand that jumps about is given room. For what
    nobody has watched yet, in the first quarters of an hour of a service, changes from minute to minute
    stand. Too small: late in each rise. Too large: idle GPUs.
    """

    deviations: Annotated[float, Field(ge=0)] = 2.0
    """How many of its root mean square rises demand is expected to rise by. 0: no reserve."""
    most: Annotated[float, Field(ge=0)] = 0.3
    """Largest reserve as a share of the mean demand."""
    memory: Duration = 900.0
    """Older rises fade with this time constant; six start-up times when that is longer."""
