"""What a service's policy carries from one turn to the next; persisted, so that cooldowns survive.

Frozen, with defaults for every field: an older version's memory is read, and a new law begins blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.demand import DemandPast, LengthsPast
from heteroscale_coordinator.core.memory.external import ExternalMemory
from heteroscale_coordinator.core.memory.forecast import ForecastMemory
from heteroscale_coordinator.core.memory.learning import LearningMemory
from heteroscale_coordinator.core.memory.mend import MendMemory
from heteroscale_coordinator.core.memory.ratio import RatioMemory
from heteroscale_coordinator.core.memory.stability import StabilityMemory
from heteroscale_coordinator.core.memory.transfer import TransferMemory


@dataclass(frozen=True, slots=True)
class SoftScaleIn:
    """A withdrawal under observation. Its members are the instances withdrawn for that reason."""

    decision_id: str
    at: float
    until: float
    demand: float | None
    """Q at withdrawal, tokens/s of the sizing role; None: unknown, where something else drives."""
    peak: float = 0.0
    """Highest Q seen since."""
    cause: Literal["", "shortage"] = ""
    """`shortage`: for a service of higher priority, whatever the demand."""
    gpus: int = 0
    """GPUs that it gives to that service."""
    prefill: float | None = None
    """Q of prefill at withdrawal, where it leads; tokens/s."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Where signals drive: by name, how many instances' targets were used at withdrawal."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A latency breach: since when, and the counts it began with (steps never compound)."""

    since: float
    counts: Mapping[Role, int]
    last_step_at: float | None = None
    given: Mapping[Role, int] = field(default_factory=dict)
    """What the newest step has added, with what a severer tier added to it since."""


@dataclass(frozen=True, slots=True)
class PolicyMemory:
    """What a service's policy carries from one turn to the next; persisted, so cooldowns survive."""

    wanted: Mapping[Role, int] = field(default_factory=dict)
    """Counts the service should have now; repair launches what is missing."""
    last_out_at: float | None = None
    """Of the last scale-out by demand or ratio; the guard's steps do not delay the next."""
    last_guard_at: float | None = None
    """Of the last step of the latency guard, or the last reinstatement during a breach."""
    last_in_at: float | None = None
    cooldown_in_factor: float = 1.0
    """Lengthens after a soft scale-in that had to be taken back at non-rising demand."""
    soft: SoftScaleIn | None = None
    breach: Breach | None = None
    low_since: float | None = None
    """Since when demand has been below the scale-in threshold without a break."""
    startup_times: tuple[float, ...] = ()
    """Last measured start-ups in seconds, newest last, at most 20."""
    launch_failures: int = 0
    """Launches failed in a row, anywhere."""
    launch_failed_at: float = 0.0
    """When the last of them failed."""
    launch_after: float = 0.0
    """No launch before: backoff after failures or infeasible placement."""
    avoid: Mapping[str, float] = field(default_factory=dict)
    """Agents to be used only where no other has room, until when: a launch failed there."""
    covering_since: float | None = None
    """Since when this coordinator has been waiting to hear the service's instances."""
    demand: Mapping[Role, DemandPast] = field(default_factory=dict)
    """Of the roles that are sized by their own demand."""
    lengths: LengthsPast | None = None
    """None where no target depends on them, or nothing was heard."""
    forecast: ForecastMemory = field(default_factory=ForecastMemory)

    ratio: RatioMemory = field(default_factory=RatioMemory)
    """What the ratio advisor has seen."""

    stability: StabilityMemory = field(default_factory=StabilityMemory)

    learning: LearningMemory = field(default_factory=LearningMemory)

    transfer: TransferMemory = field(default_factory=TransferMemory)

    mend: MendMemory | None = None
    """The newest move of an instance to a better place."""

    external: ExternalMemory = field(default_factory=ExternalMemory)
    """What others who scale it are asked for."""
