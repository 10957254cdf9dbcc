"""The figures of a run, from what the world left behind; docs/simulator.md defines each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.words import Role
from heteroscale_simulator.measures.attain import attainment
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.measures.oracle import Needs, fixed, free, static_peak
from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.measures.scaling import Scaling, ratio_error, reversals, scale_events
from heteroscale_simulator.measures.schedule import Schedule
from heteroscale_simulator.plant.port import Outcomes


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy a role's GPUs were while they were in service."""

    gpu_seconds: float
    """GPU-seconds in service (or a sample of them); 0: there were none."""
    gpu_util: float
    """Mean over those GPU-seconds, 0 to 1; as is SM activity."""
    sm_activity: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service's run is held against."""

    free: Schedule
    fixed: Schedule
    static_peak: Schedule

    @classmethod
    def of(cls, needs: Needs) -> Limits:
        """Return all three for one load."""
        return cls(free(needs), fixed(needs), static_peak(needs))


@dataclass(frozen=True)
class Record:
    """One service's part of a run."""

    outcomes: Outcomes
    intervals: Sequence[Interval]
    """Of this service."""
    decisions: Sequence[Scaling]
    """In order of time."""
    limits: Limits
    usage: Mapping[Role, Usage] = field(default_factory=dict)


def figures(
    policy: str,
    records: Sequence[Record],
    seconds: float,
    prices: Mapping[str, float],
    wall_s: float,
) -> RunFigures:
    """Return a policy's figures over all services.

    Args:
        policy: its name.
        records: one for each service.
        seconds: length of the trace: GPUs are billed from second 0 to then, and no further.
        prices: of a GPU-hour, by GPU type; a type without a price costs nothing.
        wall_s: seconds that the simulation took.

    """
    held = [line for record in records for line in billed(record.intervals, seconds)]
    met = attainment([record.outcomes for record in records])
    usage = {role: _usage(records, role) for role in (Role.PREFILL, Role.DECODE)}
    return RunFigures(
        policy=policy,
        gpu_hours=sum(line.gpu_hours for line in held),
        gpu_hours_static_peak=sum(r.limits.static_peak.gpu_hours for r in records),
        gpu_hours_oracle_free=sum(r.limits.free.gpu_hours for r in records),
        gpu_hours_oracle_fixed=sum(r.limits.fixed.gpu_hours for r in records),
        ttft_attainment=met.ttft,
        tbt_attainment=met.tbt,
        joint_attainment=met.joint,
        gpu_util_prefill=usage[Role.PREFILL][0],
        gpu_util_decode=usage[Role.DECODE][0],
        sm_prefill=usage[Role.PREFILL][1],
        sm_decode=usage[Role.DECODE][1],
        scale_events=sum(scale_events(record.decisions) for record in records),
        reversals=sum(reversals(record.decisions) for record in records),
        ratio_error_mean=_ratio_error(records, seconds),
        requests=met.requests,
        requests_failed=met.failed,
        cost=sum(line.gpu_hours * prices.get(line.gpu_type, 0.0) for line in held),
        wall_s=wall_s,
    )


def billed(intervals: Iterable[Interval], seconds: float) -> list[Interval]:
    """Return the intervals' parts between second 0 and ``seconds``."""
    cut = [
        Interval(
            *(one.service, one.instance_id, one.role, one.gpu_type, one.gpus, one.state),
            begin=max(one.begin, 0.0),
            end=min(one.end, seconds),
        )
        for one in intervals
    ]
    return [one for one in cut if one.end > one.begin]


def _usage(records: Sequence[Record], role: Role) -> tuple[float | None, float | None]:
    found = [record.usage[role] for record in records if role in record.usage]
    total = sum(one.gpu_seconds for one in found)
    if total <= 0:
        return None, None
    return (
        sum(one.gpu_seconds * one.gpu_util for one in found if one.gpu_seconds > 0) / total,
        sum(one.gpu_seconds * one.sm_activity for one in found if one.gpu_seconds > 0) / total,
    )


def _ratio_error(records: Sequence[Record], seconds: float) -> float | None:
    parts = [ratio_error(billed(r.intervals, seconds), r.limits.free) for r in records]
    time = sum(length for _, length in parts)
    return sum(error for error, _ in parts) / time if time > 0 else None
