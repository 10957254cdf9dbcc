"""The figures of a run: by hand, and once more from the exported tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import log
from pathlib import Path

import numpy as np
import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.attain import attainment
from heteroscale_simulator.measures.capacity import Offer
from heteroscale_simulator.measures.figures import Limits, Record, Usage, billed, figures
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.measures.oracle import Needs, fixed, free, static_peak
from heteroscale_simulator.measures.scaling import ratio_error, reversals, scale_events
from heteroscale_simulator.measures.schedule import Ladder
from heteroscale_simulator.plant.port import Outcomes
from heteroscale_simulator.profiles import load_profile
from heteroscale_simulator.report.export import export
from heteroscale_simulator.report.files import Batch
from heteroscale_simulator.report.study import PolicyRun
from tests.simulator import recompute, studies

P, D = Role.PREFILL, Role.DECODE
GPU = load_profile("demo").gpu("H20")


@dataclass(frozen=True)
class Move:
    at: float
    delta: Mapping[Role, int]


def outcomes(**columns: list[float]) -> Outcomes:
    length = len(columns["arrived"])
    zeros = {field.name: np.zeros(length) for field in fields(Outcomes)}
    return Outcomes(**zeros | {name: np.array(column, float) for name, column in columns.items()})


def limits(prefill: list[int], decode: list[int], seconds: float | None = None) -> Limits:
    end = len(prefill) * 60.0 if seconds is None else seconds
    edges = np.append(np.arange(len(prefill)) * 60.0, end)
    ladder = Ladder(((Offer("H20", 2, GPU, 60), None),))
    needs = Needs(
        edges,
        {P: np.array(prefill), D: np.array(decode)},
        {P: ladder, D: ladder},
        np.zeros(len(prefill)),
    )
    return Limits(free(needs), fixed(needs), static_peak(needs))


def serving(name: str, role: Role, begin: float, end: float) -> Interval:
    return Interval("chat", name, role, "H20", 2, InstanceState.IN_SERVICE, begin, end)


# ---- attainment ------------------------------------------------------------------------------


def test_attainment_counts_all_that_arrived() -> None:
    # 10 arrived: 8 first tokens in time, 7 kept TBT, 6 both; 1 failed and 2 never finished.
    one = outcomes(
        arrived=[4, 6], finished=[3, 4], failed=[1, 0], ttft_met=[3, 5], tbt_met=[3, 4], met=[3, 3]
    )
    got = attainment([one])
    assert (got.requests, got.failed) == (10, 1)
    assert (got.ttft, got.tbt, got.joint) == pytest.approx((0.8, 0.7, 0.6))
    assert got.missed == pytest.approx(0.4)


def test_services_weigh_by_their_requests() -> None:
    busy = outcomes(arrived=[90], met=[90])
    quiet = outcomes(arrived=[10], met=[0])
    assert attainment([busy, quiet]).joint == pytest.approx(0.9)


def test_nobody_arrived_is_unknown_and_not_perfect() -> None:
    got = attainment([outcomes(arrived=[0, 0])])
    assert (got.requests, got.ttft, got.tbt, got.joint, got.missed) == (0, None, None, None, None)


# ---- scaling ---------------------------------------------------------------------------------


def test_a_reversal_turns_a_role_within_ten_minutes_of_its_last_event() -> None:
    moves = [
        Move(0, {P: 1, D: 2}),
        Move(100, {}),  # a hold
        Move(300, {P: 1}),
        Move(600, {D: -1}),  # 600 s after D grew: a reversal
        Move(901, {P: -1}),  # 601 s after P grew: none
        Move(1000, {P: 1, D: 1}),  # both turn: one reversal
    ]
    assert scale_events(moves) == 5
    assert reversals(moves) == 2


def test_the_ratio_error_is_weighted_by_time() -> None:
    # The oracle has 1:2, then 1:1. The run has 1:2 all along, and 2:2 in the last half minute.
    oracle = limits([1, 1], [2, 1]).free
    lines = [
        serving("p0", P, 0, 120),
        serving("d0", D, 0, 120),
        serving("d1", D, 0, 120),
        serving("p1", P, 90, 120),
    ]
    area, seconds = ratio_error(lines, oracle)
    assert seconds == 120
    assert area == pytest.approx(30 * log(2))
    # Without a role in service there is no ratio.
    assert ratio_error(lines[1:3], oracle) == (0, 0)
    # Who starts is no part of it.
    starting = replace(lines[0], state=InstanceState.WARMING)
    assert ratio_error([starting, *lines[1:]], oracle)[1] == 30


# ---- figures ---------------------------------------------------------------------------------


def test_gpus_are_billed_inside_the_trace_alone() -> None:
    lines = [serving("p0", P, -10, 30), serving("d0", D, 50, 400), serving("d1", D, 121, 130)]
    assert [(one.begin, one.end) for one in billed(lines, 120)] == [(0, 30), (50, 120)]


def record(**changes: object) -> Record:
    lines = [
        serving("p0", P, 0, 3600),
        serving("d0", D, 0, 3600),
        replace(serving("d1", D, 1800, 2400), state=InstanceState.LAUNCHING, gpu_type="L20"),
        replace(serving("d1", D, 2400, 4000), gpu_type="L20"),
    ]
    made = Record(
        outcomes=outcomes(
            arrived=[100], finished=[90], failed=[5], ttft_met=[95], tbt_met=[90], met=[85]
        ),
        intervals=lines,
        decisions=[Move(1800, {D: 1})],
        limits=limits([1] * 60, [1] * 40 + [2] * 20),
        usage={P: Usage(7200, 0.5, 0.4), D: Usage(9600, 0.9, 0.3)},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_every_figure_by_hand() -> None:
    got = figures("hpa", [record()], 3600, {"H20": 2.0, "L20": 1.0}, 1.5)
    assert got.gpu_hours == pytest.approx(2 + 2 + 2 * 0.5)
    assert got.cost == pytest.approx(4 * 2.0 + 1 * 1.0)
    assert got.gpu_hours_static_peak == pytest.approx(2 * 3)
    assert got.gpu_hours_oracle_free == pytest.approx(2 * (2 + 21 / 60))
    assert got.gpu_hours_oracle_fixed == pytest.approx(2 * (2 + 21 / 60))  # 1:2 is one to two
    assert (got.ttft_attainment, got.tbt_attainment, got.joint_attainment) == (0.95, 0.9, 0.85)
    assert (got.gpu_util_prefill, got.gpu_util_decode) == (0.5, 0.9)
    assert (got.sm_prefill, got.sm_decode) == (0.4, 0.3)
    assert (got.scale_events, got.reversals) == (1, 0)
    # 1:1 against 1:1 until 2,400 s, then 1:2 against 1:2.
    assert got.ratio_error_mean == pytest.approx(0)
    assert (got.requests, got.requests_failed, got.wall_s) == (100, 5, 1.5)


def test_services_add_up_and_usage_weighs_by_gpu_seconds() -> None:
    other = record(usage={P: Usage(2400, 1.0, 0.8)})
    got = figures("hpa", [record(), other], 3600, {}, 1.0)
    assert got.gpu_hours == pytest.approx(10)
    assert got.cost == 0
    assert got.gpu_util_prefill == pytest.approx((7200 * 0.5 + 2400) / 9600)
    assert got.gpu_util_decode == 0.9
    assert got.scale_events == 2


def test_what_was_not_there_is_unknown() -> None:
    empty = record(outcomes=outcomes(arrived=[0]), intervals=[], decisions=[], usage={})
    got = figures("hpa", [empty], 3600, {}, 1.0)
    unknown = [
        *(got.ttft_attainment, got.tbt_attainment, got.joint_attainment, got.ratio_error_mean),
        *(got.gpu_util_prefill, got.gpu_util_decode, got.sm_prefill, got.sm_decode),
    ]
    assert unknown == [None] * 8
    assert (got.gpu_hours, got.requests) == (0, 0)


def test_the_exported_tables_give_the_same_figures(tmp_path: Path) -> None:
    run = studies.service()
    oracle = limits([1] * 60, [2] * 60)
    usage = {
        role: Usage(
            float(one.gpu_seconds.sum()),
            float(np.average(one.gpu_util, weights=one.gpu_seconds)),
            float(np.average(one.sm_activity, weights=one.gpu_seconds)),
        )
        for role, one in run.usage.items()
    }
    mine = figures(
        "joint",
        [Record(run.outcomes, run.intervals, run.decisions, oracle, usage)],
        studies.SECONDS,
        studies.PRICES,
        1.0,
    )
    study = replace(
        studies.study(("joint",)),
        runs=[PolicyRun(mine, [replace(run, figures=mine, limits=oracle)])],
    )
    with Batch() as batch:
        export(study, tmp_path, batch)
    told = recompute.figures(tmp_path, "joint")
    assert told.keys() >= {"gpu_hours", "cost", "joint_attainment", "sm_decode", "scale_events"}
    for name, value in told.items():
        assert value == pytest.approx(getattr(mine, name)), name
    errors = list(recompute.ratio_errors(tmp_path, "joint"))
    mean = sum(s * e for s, e in errors) / sum(s for s, _ in errors)
    # counts.csv is by the minute; an instance that comes inside one is there for a part of it.
    assert mine.ratio_error_mean == pytest.approx(mean, rel=0.02)
    exact = 690 * log(1.5) + 1710 * log(4 / 3) + 1200 * log(2)
    assert mine.ratio_error_mean == pytest.approx(exact / 3600)
