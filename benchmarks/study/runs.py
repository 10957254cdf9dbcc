"""One signal, eight hours: how the GPU count followed the load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.study.ground import OUTPUT, PROMPT, SPLIT, Yardstick, run, service
from benchmarks.study.signals import HEADROOM, policy_of, slo_of
from heteroscale.words import InstanceState, Role
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.traffic.source import load_source

SPARE = 2
"""The maximum is so many times what the peak needs."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What one run shows."""

    signal: str
    correlation: float
    """Of GPUs in service with requests, over minutes (Pearson's); 0 where the count never changed."""
    gpu_hours: float
    fewest: int
    most: int
    held: float
    """Share of requests inside both SLOs."""
    events: int
    """Decisions that changed the counts that are to serve."""
    counts: Floats
    """GPUs in service by minute."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of the day is played."""

    begin: float = 8.0
    """Hour; at eight the load climbs, it dips at noon, and climbs higher."""
    hours: float = 8.0
    day: float = 24.0
    """Hours in which the 24 of a day are played."""


def daily(tested: Yardstick, instances: int, cut: Cut, seed: int) -> Load:
    """Return the paper's daily load, cut; its peak asks for so many instances of each role."""
    peak = HEADROOM * tested.rate * instances / SPLIT
    source = f"gen:paper-day?day={cut.day}&peak={peak:.4g}&input={PROMPT}&output={OUTPUT}"
    load = load_source(source, seed=seed)
    hour = 3600 * cut.day / 24
    return load.cut(round(cut.begin * hour), round(cut.hours * hour))


def followed(signal: str, tested: Yardstick, load: Load, seed: int) -> Followed:
    """Play the load with one signal in charge."""
    arriving = load.by_minute("requests")
    each = HEADROOM * tested.rate / SPLIT
    most = SPARE * int(np.ceil(arriving.max() / each))
    first = max(1, int(np.ceil(arriving[:5].max() / each)))
    spec = service(most, slo=slo_of(signal, tested), **policy_of(signal, tested))
    result, seconds = run(spec, load, first, seed)
    serving = [
        result.counts[key]
        for key in result.counts
        if key[1] is InstanceState.IN_SERVICE and key[0] in (Role.PREFILL, Role.DECODE)
    ]
    counts: Floats = np.sum(serving, axis=0)
    outcomes = result.outcomes
    return Followed(
        signal,
        _correlation(counts, arriving),
        sum(float(usage.gpu_seconds.sum()) for usage in result.usage.values()) / 3600,
        int(counts.min()),
        int(counts.max()),
        float(outcomes.met[:seconds].sum() / outcomes.arrived[:seconds].sum()),
        sum(decision.scales for decision in result.decisions),
        counts,
    )


def _correlation(counts: Floats, arriving: Floats) -> float:
    length = min(len(counts), len(arriving))
    if counts[:length].std() == 0:
        return 0.0
    return float(np.corrcoef(counts[:length], arriving[:length])[0, 1])
