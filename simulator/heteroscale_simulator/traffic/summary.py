"""A load in figures: what the command prints before a run, and the report at its head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heteroscale_simulator.traffic.load import Floats, Load

TAIL = 0.99
LONG_GAP = 300
"""Seconds of silence from which on a gap is worth a warning."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of a load. Lengths are in tokens, rates in requests/s; None where nothing arrives."""

    requests: float
    seconds: int
    mean_rate: float
    peak_minute_rate: float
    input_mean: float | None
    input_p99: float | None
    """Of the means by second and class, weighted by requests: finer than that is not held."""
    output_mean: float | None
    output_p99: float | None
    ratio_low: float | None
    """Smallest prompt ÷ output tokens of an hour."""
    ratio_high: float | None
    longest_gap: int
    """Seconds in a row in which nothing arrives."""
    empty_minutes: float
    """Share of minutes in which nothing arrives, 0 to 1."""
    notes: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return it for people."""
        rates = f"mean {self.mean_rate:,.2f}/s, busiest minute {self.peak_minute_rate:,.2f}/s"
        said = [f"{self.requests:,.0f} requests in {_duration(self.seconds)}: {rates}"]
        if self.requests:
            said.append(
                f"prompts mean {self.input_mean:,.0f}, p99 by class {self.input_p99:,.0f} tokens; "
                f"outputs mean {self.output_mean:,.0f}, p99 by class {self.output_p99:,.0f}; "
                f"in:out by hour {self.ratio_low:.1f} to {self.ratio_high:.1f}"
            )
        return (*said, *self.warnings())

    def warnings(self) -> tuple[str, ...]:
        """Return what may surprise: silence, and what the reader did."""
        said = list(self.notes)
        if self.longest_gap >= LONG_GAP:
            said.append(f"longest silence: {_duration(self.longest_gap)}")
        if self.empty_minutes:
            said.append(f"{self.empty_minutes:.1%} of minutes are empty")
        return tuple(said)


def summary(load: Load) -> Summary:
    """Return a load's figures."""
    total = load.total_requests
    by_minute = load.by_minute("requests")
    ratios = _ratios(load)
    return Summary(
        requests=total,
        seconds=load.seconds,
        mean_rate=total / load.seconds,
        peak_minute_rate=float(by_minute.max()),
        input_mean=float(load.input_tokens.sum()) / total if total else None,
        input_p99=_quantile(load.input_tokens, load.requests) if total else None,
        output_mean=float(load.output_tokens.sum()) / total if total else None,
        output_p99=_quantile(load.output_tokens, load.requests) if total else None,
        ratio_low=float(ratios.min()) if len(ratios) else None,
        ratio_high=float(ratios.max()) if len(ratios) else None,
        longest_gap=_longest_gap(load.requests.sum(axis=1)),
        empty_minutes=float(np.mean(by_minute == 0)),
        notes=load.notes,
    )


def _ratios(load: Load) -> Floats:
    hours = np.arange(0, load.seconds, 3600)
    prompt = np.add.reduceat(load.input_tokens.sum(axis=1), hours)
    output = np.add.reduceat(load.output_tokens.sum(axis=1), hours)
    some = output > 0
    ratios: Floats = prompt[some] / output[some]
    return ratios


def _quantile(sums: Floats, counts: Floats) -> float:
    some = counts > 0
    means, weights = sums[some] / counts[some], counts[some]
    order = np.argsort(means)
    below = np.cumsum(weights[order])
    return float(means[order][np.searchsorted(below, TAIL * below[-1])])


def _longest_gap(requests: Floats) -> int:
    busy = np.flatnonzero(requests)
    ends = np.concatenate(([-1], busy, [len(requests)]))
    return int(np.diff(ends).max()) - 1


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - where minutes read better
        return f"{seconds:.0f} s"
    if seconds < 7200:  # noqa: PLR2004 - where hours read better
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
