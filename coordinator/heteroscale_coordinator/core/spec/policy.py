"""How counts follow demand: every setting of the laws, with unit, formula and risk."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from heteroscale.documents.fields import DocumentModel, Duration
from heteroscale_coordinator.core.spec.forecast import ForecastSpec
from heteroscale_coordinator.core.spec.latency import GuardSpec
from heteroscale_coordinator.core.spec.learning import LearningSpec
from heteroscale_coordinator.core.spec.names import Fraction
from heteroscale_coordinator.core.spec.ratio_guard import RatioGuardSpec
from heteroscale_coordinator.core.spec.reserve import ReserveSpec
from heteroscale_coordinator.core.spec.schedule import ScheduleSpec
from heteroscale_coordinator.core.spec.shortage import ShortageSpec
from heteroscale_coordinator.core.spec.signals import SignalSpec
from heteroscale_coordinator.core.spec.stability import StabilitySpec
from heteroscale_coordinator.core.spec.transfer import TransferSpec
from heteroscale_coordinator.core.spec.velocity import VelocitySpec


class ConsentSpec(DocumentModel):
    """What must all be true before anything is withdrawn."""

    kv_usage: Fraction = 0.80
    """Highest KV-cache usage, 0 to 1, of any decode instance."""
    latency: Fraction = 0.90
    """Means must be under this share of the SLO."""
    queue_per_instance: Annotated[float, Field(ge=0)] = 0.5
    """Waiting and transferring requests per instance that still count as none."""
    max_context: PositiveFloat | None = None
    """Mean prompt tokens up to which `target` was tested; above it nothing is withdrawn."""


class PolicySpec(DocumentModel):
    """How counts follow demand. Defaults are the house's, not the paper's (it states none)."""

    demand: Literal["joint", "served"] = "joint"
    """`joint`: max(served, arrivals × mean output, served + backlog ÷ horizon). `served` is the
    paper's signal alone; it cannot exceed capacity, so an overload shows late."""
    tolerance_out: Fraction = 0.05
    """θ: out when demand ÷ supply exceeds 1 + θ."""
    tolerance_in: Fraction = 0.05
    """θ: in when demand ÷ supply is below 1 − θ."""
    window_out: Duration = 15.0
    """Window that scale-out reads."""
    window_in: Duration = 60.0
    """Window that scale-in reads, through which demand must be low and all consents hold."""
    hold: Duration = 300.0
    """Scale-in leaves what the highest demand of this long carries. Longer: fewer reversals, more
    GPU-hours after each peak. At least as long as a start-up and `windowIn` together."""
    cooldown_out: Duration = 15.0
    """From one scale-out to the next. What is starting counts as supply already, so a second
    scale-out adds only what a further rise asks for. The latency guard has its own pace."""
    cooldown_in: Duration = 120.0
    """From the last change, out or in, to the next withdrawal; doubled, up to 32 times, by each
    withdrawal that turned out wrong."""
    dampening_in: Fraction = 1.0
    """Share of the surplus one scale-in takes; at least one instance of the sizing role. It is
    reversible at once, and `hold` keeps what was needed lately, so all of it goes by default."""
    least_step_in: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Smallest scale-in by demand, as a share of the present count of one role at least: what saves
    less is soon asked back. After twice `hold` of low demand any step is taken. 0: any at once."""
    max_step_out: PositiveFloat = 1.0
    """Largest scale-out in one step as a share of the present count; at least one."""
    backlog_horizon: Duration = 120.0
    """A backlog is to be worked off within this time. About a start-up: what is launched against it
    comes so late, and goes again when it is gone. Shorter: many more instances after a flash crowd."""
    observation: Duration = 90.0
    """Soft scale-in: withdrawn this long, watched, then drained; or reinstated at once."""
    freshness: Duration = 15.0
    """A reading older than this is unknown."""
    min_coverage: Fraction = 0.5
    """Share of instances heard below which nothing is decided but launches to the minimum."""
    reserve: ReserveSpec = ReserveSpec()
    """What is kept ready for demand that rises while instances start."""
    guard: GuardSpec = GuardSpec()
    consent: ConsentSpec = ConsentSpec()
    driver: Literal["demand", "signals", "latency"] = "demand"
    """What sizes the service. `demand`: decode's tokens (and prefill's, inside a band). `signals`: those
    listed below, alone. `latency`: negative feedback on the SLOs, alone (`guard`)."""
    signals: tuple[SignalSpec, ...] = ()
    """Signals that size roles in proportion: beside demand, where the largest need wins and every
    signal must agree to scale-in, or alone with `driver: signals`."""
    schedule: ScheduleSpec | None = None
    """Counts by the clock."""
    velocity: VelocitySpec | None = None
    """Token velocity: sizes by what arrives, before it is served. Default: not used."""
    forecast: ForecastSpec = ForecastSpec()
    """A floor from the demand to be expected."""
    ratio_guard: RatioGuardSpec = RatioGuardSpec()
    """How Ready prefill and decode are kept in step."""
    shortage: ShortageSpec = ShortageSpec()
    """Between services that want the same GPUs; see also `priority` and `roles.X.essential`."""
    stability: StabilitySpec = StabilitySpec()
    """Against flapping, and launches tried in vain."""
    transfer: TransferSpec = TransferSpec()
    """KV transfer near its limit."""
    learning: LearningSpec = LearningSpec()
    """How targets are learned."""

    @model_validator(mode="after")
    def _windows(self) -> Self:
        for name in ("window_out", "window_in", "backlog_horizon", "freshness"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0s")
        if self.driver == "signals" and not self.signals:
            raise ValueError(
                "driver: signals needs `signals`, e.g. prefill_sm_activity with its target"
            )
        names = [one.signal for one in self.signals]
        if len(names) > len(set(names)):
            raise ValueError(f"signals: each may be named once, got {', '.join(names)}")
        if self.window_in < self.window_out:
            raise ValueError(
                f"windowIn {self.window_in:g}s is shorter than windowOut {self.window_out:g}s"
            )
        return self
