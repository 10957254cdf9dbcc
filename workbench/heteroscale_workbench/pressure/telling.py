"""What a pressure test says: a line for each trial, a table of the splits, the finding in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from heteroscale.words import Role
from heteroscale_workbench.pressure.band import Band
from heteroscale_workbench.pressure.finding import Finding
from heteroscale_workbench.pressure.lengths import Factors
from heteroscale_workbench.pressure.values import Goal, Limit, Trial


def tell_trial(console: Console, trial: Trial, *, held: bool) -> None:
    """Say what a load came to."""
    verdict = "held" if held else "not held"
    console.print(
        f"{trial.counts!s:>8}  {trial.rate:9.3f} req/s  met {100 * trial.attainment:6.2f} %  "
        f"prefill {trial.prefill_tps:9.0f}  decode {trial.decode_tps:9.0f} tok/s  {verdict}",
        highlight=False,
    )


def show(finding: Finding, console: Console) -> None:
    """Print the table of splits, the best one marked."""
    table = Table(title="The largest load that holds the SLO, by split")
    for name in (
        "split",
        "req/s",
        "prefill tok/s",
        "decode tok/s",
        "met",
        "TTFT",
        "TBT",
        "util P/D",
    ):
        table.add_column(name, justify="right")
    for limit in finding.limits:
        table.add_row(*_row(limit), style="bold" if limit is finding.best else None)
    console.print(table)


def _row(limit: Limit) -> list[str]:
    trial = limit.trial
    if trial is None:
        return [str(limit.counts), "none", *["–"] * 6]
    return [
        str(limit.counts),
        f"{trial.rate:.2f}",
        f"{trial.prefill_tps:,.0f}",
        f"{trial.decode_tps:,.0f}",
        f"{100 * trial.attainment:.2f} %",
        _ms(trial.ttft),
        _ms(trial.tbt),
        f"{_percent(trial.util_prefill)}/{_percent(trial.util_decode)}",
    ]


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f} ms"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


SHARP = 5e-4
"""A share that is lowered by less than this is the one that was asked for."""


def ceiling_in_words(ceiling: float, goal: Goal) -> str:
    """Return what was held, where the ceiling lowers what was asked for; empty where it does not."""
    held = goal.below(ceiling).attainment
    if held > goal.attainment - SHARP:
        return ""
    return (
        f"even at a light load {100 * ceiling:.1f} % of these requests meet the SLO, no more; "
        f"targets hold {100 * held:.1f} %"
    )


def as_data(
    finding: Finding, targets: dict[Role, dict[str, float]], factors: Factors, band: Band
) -> dict[str, Any]:
    """Return everything for JSON."""
    return {
        "ratio": finding.ratio,
        "ceiling": finding.ceiling,
        "band": asdict(band),
        "targets": {role.value: by_type for role, by_type in targets.items()},
        "target_by_prompt": {role.value: dict(points) for role, points in factors.items()},
        "splits": [
            {
                "prefill": limit.counts.prefill,
                "decode": limit.counts.decode,
                "trials": limit.trials,
                "limit": None if limit.trial is None else asdict(limit.trial),
            }
            for limit in finding.limits
        ],
    }


def in_words(
    finding: Finding,
    targets: dict[Role, dict[str, float]],
    factors: Factors,
    band: Band,
    goal: Goal,
) -> str:
    """Return the finding as a few sentences; ``goal`` is what was asked for."""
    parts = [
        f"{role.value} " + ", ".join(_target(gpu, value) for gpu, value in by_type.items())
        for role, by_type in targets.items()
    ]
    slower = [
        f"{role.value} × "
        + ", ".join(f"{factor:.2f} at {prompt:,}" for prompt, factor in sorted(points.items()))
        for role, points in factors.items()
    ]
    why = ceiling_in_words(finding.ceiling, goal)
    return (
        f"Best ratio {finding.ratio}, band {band.low:.3g} to {band.high:.3g} ({band.because}); "
        f"targets {'; '.join(parts)} tok/s an instance."
        + (f" By mean prompt tokens: {'; '.join(slower)}." if slower else "")
        + (f" {why[0].upper()}{why[1:]}." if why else "")
    )


def _target(gpu: str, value: float) -> str:
    return f"{value:,.0f} on {gpu}" if gpu else f"{value:,.0f}"
