"""A run by the minute: what the page draws and ``counts.csv`` holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.report.study import ServiceRun
from heteroscale_simulator.traffic.load import Floats

ROLES = (Role.PREFILL, Role.DECODE)
MINUTE = 60
ENDED = 0.999
"""Share of the arrived; above it the few that are still there at the end are left out of shares."""


class Stage(StrEnum):
    """States as a reader of counts wants them."""

    IN_SERVICE = "in_service"
    STARTING = "starting"
    LEAVING = "leaving"


STAGES: Mapping[Stage, frozenset[InstanceState]] = {
    Stage.IN_SERVICE: frozenset({InstanceState.IN_SERVICE}),
    Stage.STARTING: frozenset(
        {InstanceState.PENDING, InstanceState.LAUNCHING, InstanceState.WARMING}
    ),
    Stage.LEAVING: frozenset({InstanceState.WITHDRAWN, InstanceState.DRAINING}),
}


@dataclass(frozen=True, slots=True)
class Series:
    """Means by bin of ``width`` seconds; NaN where nothing was there to be measured."""

    width: int
    requests: Floats
    """Per second, as all rates here."""
    input_tokens: Floats
    output_tokens: Floats
    counts: Mapping[Role, Mapping[Stage, Floats]]
    """Mean number of instances."""
    gpus: Floats
    """GPUs held, in any state."""
    ttft_mean: Floats
    """Seconds; of the requests that arrived in the bin, as the rest."""
    ttft_met: Floats
    """Share of the arrived, 0 to 1."""
    tbt_mean: Floats
    tbt_met: Floats

    @property
    def ratio(self) -> Floats:
        """Prefill per decode instance in service."""
        return share(
            self.counts[Role.PREFILL][Stage.IN_SERVICE], self.counts[Role.DECODE][Stage.IN_SERVICE]
        )


def series(run: ServiceRun, width: int = MINUTE) -> Series:
    """Return a service's run in bins of ``width`` seconds; the last bin may be short."""
    seconds, out = run.load.seconds, run.outcomes
    arrived = sums(out.arrived, width)
    # The plant books requests that decode together at their mean second of arrival, the met as the
    # unmet: a share of those who ended is right where one of the arrived would be ragged.
    all_ended = (out.finished + out.failed).sum() > ENDED * out.arrived.sum()
    ended = sums(out.finished + out.failed, width) if all_ended else arrived
    return Series(
        width=width,
        requests=rates(run.load.requests.sum(axis=1), width),
        input_tokens=rates(run.load.input_tokens.sum(axis=1), width),
        output_tokens=rates(run.load.output_tokens.sum(axis=1), width),
        counts={role: _stages(run.intervals, role, seconds, width) for role in ROLES},
        gpus=held(run.intervals, seconds, width, by_gpus=True),
        ttft_mean=share(sums(out.ttft_sum, width), sums(out.first_tokens, width)),
        ttft_met=np.minimum(share(sums(out.ttft_met, width), arrived), 1.0),
        tbt_mean=share(sums(out.tbt_sum, width), sums(out.finished, width)),
        tbt_met=np.minimum(share(sums(out.tbt_met, width), ended), 1.0),
    )


def sums(values: Floats, width: int) -> Floats:
    """Return Σ of ``values`` (one a second) in each bin."""
    starts = np.arange(0, len(values), width)
    result: Floats = np.add.reduceat(values, starts) if len(values) else np.zeros(0)
    return result


def rates(values: Floats, width: int) -> Floats:
    """Return the mean of ``values`` (one a second) in each bin."""
    result: Floats = sums(values, width) / np.diff(edges(len(values), width))
    return result


def share(part: Floats, whole: Floats) -> Floats:
    """Return ``part`` ÷ ``whole``, NaN where the whole is nothing."""
    empty = np.full(len(whole), np.nan)
    result: Floats = np.divide(part, whole, out=empty, where=whole > 0)
    return result


def edges(seconds: int, width: int) -> Floats:
    """Return where bins begin, and where the last one ends."""
    begins = np.arange(0, seconds, width, dtype=np.float64)
    return np.append(begins, float(seconds))


def held(
    intervals: Iterable[Interval], seconds: int, width: int, *, by_gpus: bool = False
) -> Floats:
    """Return the mean number of instances (or of their GPUs) that the intervals hold, by bin."""
    rows = [(i.begin, i.end, float(i.gpus) if by_gpus else 1.0) for i in intervals]
    at = edges(seconds, width)
    if not rows:
        return np.zeros(len(at) - 1)
    begin, end, weight = (np.array(column) for column in zip(*rows, strict=True))
    # Instance-seconds until t: Σ max(0, t − begin) − Σ max(0, t − end); their differences are exact.
    until = _ramps(begin, weight, at) - _ramps(end, weight, at)
    result: Floats = np.diff(until) / np.diff(at)
    return np.maximum(result, 0.0)


def _ramps(starts: Floats, weights: Floats, at: Floats) -> Floats:
    """Return Σ weight × max(0, t − start) at each t."""
    order = np.argsort(starts)
    starts, weights = starts[order], weights[order]
    index = np.searchsorted(starts, at)
    count = np.concatenate(([0.0], np.cumsum(weights)))[index]
    moment = np.concatenate(([0.0], np.cumsum(weights * starts)))[index]
    result: Floats = count * at - moment
    return result


def _stages(
    intervals: Sequence[Interval], role: Role, seconds: int, width: int
) -> Mapping[Stage, Floats]:
    own = [interval for interval in intervals if interval.role is role]
    return {
        stage: held((i for i in own if i.state in states), seconds, width)
        for stage, states in STAGES.items()
    }
