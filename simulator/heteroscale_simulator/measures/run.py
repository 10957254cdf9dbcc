"""One policy's run over one trace: the figures, each defined in docs/simulator.md, and in their order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The measures of a run. Shares are 0 to 1; None where nothing was there to be measured."""

    policy: str
    gpu_hours: float
    gpu_hours_static_peak: float
    gpu_hours_oracle_free: float
    gpu_hours_oracle_fixed: float
    ttft_attainment: float | None
    """Of the arrived requests."""
    tbt_attainment: float | None
    joint_attainment: float | None
    gpu_util_prefill: float | None
    """Mean over GPU-seconds in service."""
    gpu_util_decode: float | None
    sm_prefill: float | None
    sm_decode: float | None
    scale_events: int
    """Decisions that changed a count."""
    reversals: int
    """Scale events in the other direction than the one before, within ten minutes."""
    ratio_error_mean: float | None
    """Time-weighted mean of |ln((P/D) ÷ (P*/D*))|: P, D in service, P*, D* the free oracle's."""
    requests: float
    requests_failed: float
    cost: float
    """Σ GPU-hours × price."""
    wall_s: float
    """Seconds that the simulation took."""
