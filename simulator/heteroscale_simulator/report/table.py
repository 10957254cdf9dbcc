"""The figures on a terminal: one row a policy, the limits in brackets, then all of it in words."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import IO

from heteroscale_simulator.measures.run import RunFigures
from heteroscale_simulator.report.bills import bills
from heteroscale_simulator.report.study import Study
from heteroscale_simulator.report.words import (
    NONE,
    comparison,
    number,
    of_oracle,
    percent,
    saved,
)

COLUMNS = (
    *("POLICY", "GPU-HOURS", "SAVED", "OF ORACLE", "TTFT", "TBT", "BOTH"),
    *("FAILED", "EVENTS", "COST"),
)


def show(study: Study, out: IO[str]) -> None:
    """Write the study's table, what should be known of it, and its sentence."""
    table = [COLUMNS, *_rows(study)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for name, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        out.write("  ".join([name.ljust(widths[0]), *cells]) + "\n")
    out.write("\n")
    width = shutil.get_terminal_size((100, 24)).columns
    said = [f"note: {note}" for note in study.notes]
    for text in (*said, comparison([run.figures for run in study.runs])):
        out.write(textwrap.fill(text, width, break_on_hyphens=False) + "\n")


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
        number(round(figures.requests_failed)),
        str(figures.scale_events),
        number(figures.cost),
    )


def _rows(study: Study) -> Iterator[Sequence[str]]:
    for run in study.runs:
        yield row(run.policy, run.figures)
        if len(run.services) > 1:
            for service in run.services:
                yield row(f"  {service.service}", service.figures)
    for bill in bills(study):
        yield (
            *(f"[{bill.name}]", number(bill.gpu_hours)),
            *(percent(bill.saved), percent(bill.of_oracle, 0)),
            *[NONE] * 5,
            number(bill.cost),
        )
