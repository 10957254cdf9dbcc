"""What a run leaves behind: JSON, minutes, tables, files that are whole or not there, and words."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import InstanceState, Role
from heteroscale_simulator.measures.ledger import Interval
from heteroscale_simulator.report import words
from heteroscale_simulator.report.export import TABLES, export
from heteroscale_simulator.report.figures import as_json
from heteroscale_simulator.report.files import Batch, UnwritableError, check_file, check_folder
from heteroscale_simulator.report.series import Stage, held, series
from heteroscale_simulator.report.table import show
from tests.simulator import recompute, studies

KEYS = [
    *("policy", "gpu_hours", "gpu_hours_static_peak"),
    *("gpu_hours_oracle_free", "gpu_hours_oracle_fixed"),
    *("ttft_attainment", "tbt_attainment", "joint_attainment"),
    *("gpu_util_prefill", "gpu_util_decode", "sm_prefill", "sm_decode"),
    *("scale_events", "reversals", "ratio_error_mean", "requests", "requests_failed"),
    *("cost", "wall_s"),
]


# ---- JSON ----------------------------------------------------------------------------------


def test_a_run_has_the_figures_in_their_order_and_unknown_is_null() -> None:
    document = json.loads(as_json(studies.study(("hpa", "joint"))))
    assert [run["policy"] for run in document["runs"]] == ["hpa", "joint"]
    assert [list(run) for run in document["runs"]] == [KEYS, KEYS]
    assert document["runs"][0]["sm_decode"] is None
    assert document["runs"][0]["ratio_error_mean"] is None  # NaN in the study
    assert document["seed"] == 7
    assert document["limits"]["free"] == {"gpu_hours": 6.0, "cost": 9.0}
    assert document["oracle"]["chat"]["instances_peak"] == 3
    assert document["oracle"]["chat"]["static_peak_decode"] == 4


def test_several_services_have_figures_of_their_own() -> None:
    (run,) = json.loads(as_json(studies.study(("joint",), ("a", "b"))))["runs"]
    assert [service["service"] for service in run["services"]] == ["a", "b"]
    assert set(run["services"][0]) == {"service", *KEYS}


def test_the_trace_is_told_in_numbers() -> None:
    trace = json.loads(as_json(studies.study()))["trace"]["chat"]
    load = studies.load()
    assert trace["requests"] == pytest.approx(load.requests.sum())
    assert trace["requests_per_s_peak"] == pytest.approx(
        max(load.requests.sum(axis=1).reshape(-1, 60).mean(axis=1))
    )
    assert trace["input_tokens_mean"] == pytest.approx(0.8 * 800 + 0.2 * 4000)
    assert trace["input_tokens_p99"] == pytest.approx(4000)
    assert 0 < trace["in_out_ratio_low"] <= trace["in_out_ratio_high"]
    assert (trace["longest_gap_s"], trace["empty_minutes"]) == (0, 0)


# ---- by the minute -------------------------------------------------------------------------

MOMENTS = st.floats(0, 400, allow_nan=False)


@given(st.lists(st.tuples(MOMENTS, MOMENTS, st.integers(1, 8)), max_size=8), st.integers(1, 330))
def test_counts_are_the_mean_overlap_of_each_bin(
    spans: list[tuple[float, float, int]], seconds: int
) -> None:
    intervals = [
        Interval("s", "i", Role.DECODE, "H20", g, InstanceState.IN_SERVICE, min(a, b), max(a, b))
        for a, b, g in spans
    ]
    told = held(intervals, seconds, 60, by_gpus=True)
    begins = range(0, seconds, 60)
    plain = [
        sum(max(0.0, min(i.end, end) - max(i.begin, at)) * i.gpus for i in intervals) / (end - at)
        for at, end in ((at, min(at + 60, seconds)) for at in begins)
    ]
    assert told == pytest.approx(plain, abs=1e-6)


def test_the_minutes_of_a_run() -> None:
    minutes = series(studies.service())
    prefill, decode = minutes.counts[Role.PREFILL], minutes.counts[Role.DECODE]
    assert prefill[Stage.IN_SERVICE][[0, 10, 11, 12]] == pytest.approx([1, 1, 1.5, 2])
    assert prefill[Stage.STARTING][[9, 10, 11, 12]] == pytest.approx([0, 1, 0.5, 0])
    assert decode[Stage.LEAVING][[39, 40, 45, 46]] == pytest.approx([0, 1, 35.5 / 60, 0])
    assert minutes.gpus[[0, 10, 50]] == pytest.approx([8, 10, 8])
    assert minutes.ratio[[0, 50]] == pytest.approx([1 / 3, 1])
    assert minutes.ttft_mean == pytest.approx(np.full(60, 0.4))
    assert minutes.tbt_met == pytest.approx(np.full(60, 0.992))


def test_a_minute_without_requests_has_no_latency() -> None:
    run = studies.service()
    silent = replace(
        run.outcomes,
        **{
            name: np.zeros(studies.SECONDS)
            for name in ("arrived", "finished", "first_tokens", "ttft_sum", "ttft_met", "tbt_sum")
        },
    )
    minutes = series(replace(run, outcomes=silent))
    assert np.isnan([minutes.ttft_mean, minutes.ttft_met, minutes.tbt_mean]).all()


# ---- CSV -----------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    with Batch() as batch:
        export(studies.study(("joint", "hpa")), tmp_path, batch)
    return tmp_path


def test_the_tables_give_the_figures(exported: Path) -> None:
    told = recompute.figures(exported, "joint")
    run = studies.service()
    assert told["gpu_hours"] == pytest.approx(sum(i.gpu_hours for i in run.intervals))
    assert told["cost"] == pytest.approx(
        sum(i.gpu_hours * studies.PRICES[i.gpu_type] for i in run.intervals)
    )
    assert told["gpu_hours_oracle_free"] == pytest.approx(6)  # three instances of two GPUs, an hour
    assert told["gpu_hours_static_peak"] == pytest.approx(12)
    assert told["requests"] == pytest.approx(72000)
    assert told["requests_failed"] == pytest.approx(10)
    assert told["joint_attainment"] == pytest.approx(0.99)
    assert told["ttft_attainment"] == pytest.approx(0.995)
    assert told["scale_events"] == 3
    assert told["reversals"] == 1  # decode: −1 at 2,400 s, +1 at 2,800 s
    usage = run.usage[Role.DECODE]
    assert told["gpu_util_decode"] == pytest.approx(
        np.average(usage.gpu_util, weights=usage.gpu_seconds)
    )


def test_every_column_is_explained(exported: Path) -> None:
    text = (exported / "README.txt").read_text()
    for table in TABLES:
        header = (exported / table).read_text().partition("\n")[0].split(",")
        assert table in text
        for column in header:
            stem = re.sub(r"^(prefill|decode|oracle)_", "", column)
            assert re.search(rf"\b{column}\b|(\*_|, |decode_\*  instances ){stem}\b", text), column


def test_a_reason_with_commas_and_quotes_survives(exported: Path) -> None:
    told = recompute.rows(exported, "decisions.csv", "hpa")
    assert [row["reason"] for row in told] == [one.reason for one in studies.DECISIONS]
    assert [row["second"] for row in told] == ["600", "2400", "2700", "2800"]


# ---- files that are there whole or not at all -----------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_batch_leaves_nothing_and_harms_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    old = tmp_path / "old.json"
    old.write_text("as it was")

    def broken() -> None:
        with Batch() as batch:
            batch.write(old, ["new"])
            batch.write(tmp_path / "new.json", ["new"])
            raise error

    with pytest.raises(error):
        broken()
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert old.read_text() == "as it was"


def test_files_have_the_mode_of_new_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    with Batch() as batch:
        batch.write(tmp_path / "ours", ["a", "b"])
    assert (tmp_path / "ours").read_text() == "ab"
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_device_is_written_to_and_stays_one() -> None:
    with Batch() as batch:
        batch.write(Path("/dev/null"), ["gone"])
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_path_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_file(tmp_path / "new.json", "--json")
    check_folder(tmp_path / "new", "--export")
    with pytest.raises(UnwritableError, match="is a folder"):
        check_file(tmp_path, "--json")
    with pytest.raises(UnwritableError, match="there is no folder"):
        check_file(tmp_path / "none" / "new.json", "--json")
    with pytest.raises(UnwritableError, match="is a file"):
        check_folder(tmp_path / "file", "--export")
    with pytest.raises(UnwritableError, match="there is no folder"):
        check_folder(tmp_path / "none" / "new", "--export")


# ---- words ---------------------------------------------------------------------------------


def test_what_is_not_all_is_never_shown_as_all() -> None:
    assert words.percent(0.99999) == "99.9 %"
    assert words.percent(0.99999, 2) == "99.99 %"
    assert words.percent(1.0) == words.percent(1 - 1e-12) == "100.0 %"
    assert words.percent(-0.0001) == "0.0 %"
    assert words.percent(-0.001) == "-0.1 %"
    assert words.percent(None) == words.percent(float("nan")) == "–"


def test_a_run_in_a_sentence() -> None:
    assert words.sentence(studies.figures()) == (
        "joint held 20.0 % fewer GPU-hours than static peak provisioning (50 % of what perfect "
        "foresight would save), and 99.0 % of the requests met their SLO; 10 were cut off."
    )
    assert "5.0 % more GPU-hours" in words.sentence(studies.figures(hours=10.5))
    assert "as many GPU-hours as static peak" in words.sentence(studies.figures(hours=10.0))


def test_the_comparison_names_the_cheapest_of_those_that_kept_the_promise() -> None:
    cheap_but_bad = studies.figures("greedy", 5.0, 0.7)
    oracle = studies.figures("oracle-free", 6.0)
    others = [studies.figures("hpa", 9.0), cheap_but_bad, oracle]
    told = words.comparison([studies.figures(), *others])
    assert told.endswith("(99.0 %), joint held the fewest GPU-hours (8).")


def test_of_many_runs_only_the_first_is_told_at_length() -> None:
    runs = [
        studies.figures(name, 8.0 + n) for n, name in enumerate(("joint", "hpa", "keda", "kpa"))
    ]
    told = words.comparison(runs)
    assert told.count("static peak provisioning") == 1
    assert told.startswith("joint held")
    assert told.endswith("joint held the fewest GPU-hours (8).")


def test_the_table_has_a_row_for_each_policy_and_service() -> None:
    out = StringIO()
    show(studies.study(("joint", "hpa"), ("a", "b")), out)
    firsts = [line.split()[0] for line in out.getvalue().splitlines() if line.strip()]
    assert firsts[:7] == ["POLICY", "joint", "a", "b", "hpa", "a", "b"]
    assert firsts[7] == "[static"
    lines = out.getvalue().splitlines()
    # Two services, each four decode and two prefill instances of two GPUs for an hour, at 1.5.
    assert lines[7].split() == ["[static", "peak]", "24", "0.0", "%", "0", "%", *["–"] * 5, "36"]
    assert lines[9].split()[3:8] == ["12", "50.0", "%", "100", "%"]
    assert "note: speeds of L20 are estimates <i>" in out.getvalue()


def test_moments_and_lengths_in_words() -> None:
    assert words.clock(3661.5) == "1:01:01"
    assert words.span(86400) == "24 h"
    assert words.span(5400) == "1 h 30 min"
    assert words.span(0) == "0 s"
