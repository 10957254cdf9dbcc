"""The figures on a terminal: one row a policy, then what they come to in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.report.study import Study
from heteroscale_simulator.report.words import comparison, number, of_oracle, percent, saved

COLUMNS = (
    *("POLICY", "GPU-HOURS", "SAVED", "OF ORACLE", "TTFT", "TBT", "BOTH"),
    *("FAILED", "EVENTS", "REVERSALS", "COST"),
)


def show(study: Study, console: Console) -> None:
    """Print the study's table and its sentence."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "POLICY" else "right", no_wrap=True)
    for run in study.runs:
        table.add_row(*(Text(cell) for cell in row(run.policy, run.figures)))
        if len(run.services) > 1:
            for service in run.services:
                table.add_row(*(Text(c) for c in row(f"  {service.service}", service.figures)))
    console.print(table)
    console.print()
    for note in study.notes:
        console.print(Text(f"note: {note}"))
    console.print(Text(comparison([run.figures for run in study.runs])))


def row(name: str, figures: RunFigures) -> Sequence[str]:
    """Return one row's cells. SAVED is against static peak, OF ORACLE of what the oracle saves."""
    return (
        name,
        number(figures.gpu_hours),
        percent(saved(figures)),
        percent(of_oracle(figures), 0),
        percent(figures.ttft_attainment),
        percent(figures.tbt_attainment),
        percent(figures.joint_attainment),
        number(figures.requests_failed),
        str(figures.scale_events),
        str(figures.reversals),
        number(figures.cost),
    )
