"""Tables of a study, from which anyone can recompute its figures. ``README.txt`` there says how."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path

import numpy as np

from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.report.files import Batch
from heteroscale_simulator.report.series import MINUTE, ROLES, Stage, edges, series
from heteroscale_simulator.report.study import PolicyRun, ServiceRun, Study
from heteroscale_simulator.traffic.load import Floats
from heteroscale_simulator.world.result import Usage

Row = Sequence[object]
OUTCOMES = tuple(field.name for field in fields(Outcomes))
COHORTS = ("policy", "service", "second", *OUTCOMES)
INTERVALS = (
    *("policy", "service", "instance", "role", "gpu_type", "gpus", "state", "begin", "end"),
    "price",
)
COUNTS = (
    *("policy", "service", "begin", "end"),
    *(f"{role}_{stage}" for role in ROLES for stage in Stage),
    *("oracle_prefill", "oracle_decode"),
    *(f"{role}_{name}" for role in ROLES for name in ("gpu_seconds", "gpu_util", "sm_activity")),
)
DECISIONS = (
    *(
        "policy",
        "service",
        "second",
        "action",
        "prefill_delta",
        "decode_delta",
        "bound_by",
        "reason",
    ),
)
LIMITS = ("limit", *INTERVALS[1:])
SCHEDULES = {"static-peak": "static_peak", "oracle-free": "free", "oracle-fixed": "fixed"}
TABLES = ("cohorts.csv", "intervals.csv", "counts.csv", "decisions.csv", "limits.csv")


def export(study: Study, folder: Path, batch: Batch) -> None:
    """Write the tables and their explanation into ``folder``, which is made if need be."""
    batch.folder(folder)
    every = [(run, service) for run in study.runs for service in run.services]
    _table(batch, folder / "cohorts.csv", COHORTS, (r for e in every for r in _cohorts(*e)))
    _table(
        batch,
        folder / "intervals.csv",
        INTERVALS,
        (r for e in every for r in _intervals(*e, study)),
    )
    _table(batch, folder / "counts.csv", COUNTS, (r for e in every for r in _counts(*e)))
    _table(batch, folder / "decisions.csv", DECISIONS, (r for e in every for r in _decisions(*e)))
    _table(batch, folder / "limits.csv", LIMITS, _limits(study))
    text = (resources.files(__package__) / "export.txt").read_text("utf-8")
    batch.write(folder / "README.txt", [text])


def _table(batch: Batch, path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with batch.open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _cohorts(run: PolicyRun, service: ServiceRun) -> Iterator[Row]:
    columns = [_numbers(getattr(service.outcomes, name)) for name in OUTCOMES]
    for second, values in enumerate(zip(*columns, strict=True)):
        yield (run.policy, service.service, second, *values)


def _intervals(run: PolicyRun, service: ServiceRun, study: Study) -> Iterator[Row]:
    for one in service.intervals:
        yield (run.policy, *_interval(one, study))


def _limits(study: Study) -> Iterator[Row]:
    """Yield what each limit holds: the same for every policy."""
    for service in study.runs[0].services if study.runs else ():
        for name, schedule in SCHEDULES.items() if service.limits is not None else ():
            for one in getattr(service.limits, schedule).intervals(service.service):
                yield (name, *_interval(one, study))


def _interval(one: Interval, study: Study) -> Row:
    return (
        *(one.service, one.instance_id, one.role, one.gpu_type, one.gpus),
        *(one.state, _number(one.begin), _number(one.end)),
        _number(study.prices.get(one.gpu_type, 0.0)),
    )


def _counts(run: PolicyRun, service: ServiceRun) -> Iterator[Row]:
    minutes = series(service)
    at = _numbers(edges(service.load.seconds, MINUTE))
    columns = [_numbers(minutes.counts[role][stage]) for role in ROLES for stage in Stage]
    length = len(at) - 1
    free = service.limits.free.counts if service.limits is not None else {}
    columns += [[str(n) for n in free[role]] if role in free else [""] * length for role in ROLES]
    for role in ROLES:
        columns += _usage(service.usage.get(role), length)
    for index, values in enumerate(zip(*columns, strict=True)):
        yield (run.policy, service.service, at[index], at[index + 1], *values)


def _usage(usage: Usage | None, length: int) -> list[list[str]]:
    if usage is None:
        return [[""] * length] * 3
    busy = usage.gpu_seconds > 0
    means = [np.where(busy, values, np.nan) for values in (usage.gpu_util, usage.sm_activity)]
    return [_numbers(values) for values in (usage.gpu_seconds, *means)]


def _decisions(run: PolicyRun, service: ServiceRun) -> Iterator[Row]:
    for told in service.decisions:
        yield (
            *(run.policy, service.service, _number(told.at), told.action),
            *(told.delta.get(role, 0) for role in ROLES),
            *(told.bound_by, told.reason),
        )


def _numbers(values: Floats) -> list[str]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> str:
    """Return a number with ten figures; empty when there is none."""
    return f"{value:.10g}" if math.isfinite(value) else ""
