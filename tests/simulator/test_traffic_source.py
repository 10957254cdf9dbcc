"""What is typed after --trace: generators, recorded curves, recordings; and a load in figures."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_simulator.traffic.demand import parts
from heteroscale_simulator.traffic.generators import PAPER_DAY, SHAPES
from heteroscale_simulator.traffic.load import Load
from heteroscale_simulator.traffic.rows import TraceError
from heteroscale_simulator.traffic.source import generated, load_source
from heteroscale_simulator.traffic.summary import summary

# ---- generators ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_a_generator_is_sound_peaks_where_it_says_and_repeats_itself(name: str) -> None:
    text = f"gen:{name}?peak=300"
    demand = generated(text)
    assert demand.rate.max() == pytest.approx(300, rel=1e-3)
    assert demand.rate.min() >= 0
    load, again, other = load_source(text), load_source(text), load_source(text, seed=1)
    assert np.array_equal(load.input_tokens, again.input_tokens)
    assert not np.array_equal(load.input_tokens, other.input_tokens)
    assert load.seconds == len(demand.rate) == SHAPES[name].parameters["hours"].default * 3600
    assert load.total_requests == pytest.approx(demand.rate.sum(), rel=0.01)
    expected = (demand.rate * demand.input_mean).sum(), (demand.rate * demand.output_mean).sum()
    assert load.input_tokens.sum() == pytest.approx(expected[0], rel=0.02)
    assert load.output_tokens.sum() == pytest.approx(expected[1], rel=0.02)
    assert (load.output_tokens >= load.requests).all()
    assert (load.input_tokens[load.requests == 0] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(SHAPES)), st.floats(0.001, 1), st.floats(1, 3), st.integers(1, 16))
def test_any_length_of_run_and_any_mean_is_made(
    name: str, hours: float, mean: float, classes: int
) -> None:
    load = load_source(f"gen:{name}?hours={hours}&output={mean}&spread=2", 2, 0, classes)
    assert load.seconds == max(1, round(hours * 3600))
    assert (load.output_tokens >= load.requests).all()
    assert load.classes <= classes


def test_arrivals_are_poisson_and_lengths_lognormal() -> None:
    load = load_source("gen:steady?peak=40&hours=8&input=1000&spread=1")
    requests = load.requests.sum(axis=1)
    assert requests.mean() == pytest.approx(40, rel=0.01)
    assert requests.var() == pytest.approx(40, rel=0.05)
    sample = load_source("gen:steady?peak=0.05&hours=100&input=1000&spread=1")
    alone = sample.requests == 1
    lengths = sample.input_tokens[alone]
    assert np.log(lengths).std() == pytest.approx(1, rel=0.1)
    assert np.median(lengths) == pytest.approx(1000 * np.exp(-0.5), rel=0.1)


def test_a_cut_distribution_adds_up() -> None:
    cut = parts(1.2, (0.5, 0.9, 0.99))
    assert sum(part.share for part in cut) == pytest.approx(1)
    assert sum(part.share * part.mean for part in cut) == pytest.approx(1)
    assert all(part.low <= part.mean <= part.high for part in cut)


def test_the_flash_crowd_is_five_times_the_calm() -> None:
    rate = generated("gen:flash-crowd?peak=500").rate
    assert rate[0] == rate[-1] == pytest.approx(100)
    assert rate.max() == pytest.approx(500)
    assert (rate == rate.max()).sum() == pytest.approx(600, abs=2)
    up = np.flatnonzero(rate > 100)[0]
    assert up == pytest.approx(1800, abs=2)


def test_on_off_is_silent_between_bursts() -> None:
    rate = generated("gen:on-off?on=60&off=30&peak=10").rate
    assert rate[:60].tolist() == [10.0] * 60
    assert rate[60:90].tolist() == [0.0] * 30
    assert rate[90] == 10


def test_the_ratio_drifts_and_comes_back() -> None:
    demand = generated("gen:ratio-drift?from=5&to=28&hours=48&period=48")
    ratio = demand.input_mean / demand.output_mean
    assert ratio[0] == pytest.approx(5)
    assert ratio[24 * 3600] == pytest.approx(28)
    assert ratio[-1] == pytest.approx(5, rel=1e-3)
    assert (demand.input_mean * demand.output_mean).std() == pytest.approx(0, abs=1e-3)


def test_the_papers_day_goes_through_its_points() -> None:
    rate = generated("gen:paper-day?peak=98").rate
    for hour, percent in PAPER_DAY[:-1]:
        assert rate[round(hour * 3600)] == pytest.approx(percent, rel=0.01)
    squeezed = generated("gen:paper-day?peak=98&day=2&hours=2").rate
    assert squeezed[3600] == pytest.approx(rate[12 * 3600])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gen:", "no generator '' .known: steady, diurnal"),
        ("gen:diurnl", "no generator 'diurnl'.*did you mean diurnal"),
        ("gen:diurnal?peek=3", "no parameter 'peek'; known: hours .length of the run., peak"),
        ("gen:diurnal?on=3", "no parameter 'on'"),
        ("gen:diurnal?peak=lots", "peak is 'lots'; a number is needed"),
        ("gen:diurnal?peak", "peak has no value; a number is needed"),
        ("gen:diurnal?peak=1&peak=2", "peak is given twice"),
        ("gen:diurnal?hours=1441", "hours is 1441; a number from .* to 1440 is needed"),
        ("gen:diurnal?peak=nan", "peak is nan; a number from 0"),
        ("gen:on-off?on=inf", "on is inf; a number from 1 up is needed"),
        ("gen:diurnal?output=0", "output is 0; a number from 1"),
        ("gen:diurnal?", None),
    ],
)
def test_a_specification_is_read_strictly(text: str, complaint: str | None) -> None:
    if complaint is None:
        assert load_source(text).seconds == 86400
        return
    with pytest.raises(TraceError, match=complaint):
        load_source(text)


def test_every_generator_and_parameter_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    shared = SHAPES["steady"].parameters
    for name, shape in SHAPES.items():
        own = {key: p for key, p in shape.parameters.items() if key not in shared}
        cells = "; ".join(f"`{key}` {p.meaning} ({p.default:g})" for key, p in own.items()) or "–"
        assert f"| `{name}` | {shape.meaning} | {cells} |" in page


def test_rate_scale_is_a_factor_on_what_is_made_up() -> None:
    load = load_source("gen:steady?peak=10", 7)
    assert load.total_requests == pytest.approx(7 * 36_000, rel=0.02)
    with pytest.raises(ValueError, match="rate scale"):
        load_source("gen:steady", 0)


# ---- recorded curves and recordings --------------------------------------------------------

TOKENS = "minute,total_tokens_per_s\n0,1200\n1,0\n3,2400.0\n"
PERCENT = "hour,load_pct_of_peak\n0,0\n1,100\n2,50\n"


def written(tmp_path: Path, text: str, name: str = "curve.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_tokens_by_the_minute_become_requests_of_stated_lengths(tmp_path: Path) -> None:
    path = written(tmp_path, TOKENS)
    load = load_source(f"{path}?input=100&output=20", 50)
    by_minute = load.by_minute("requests")
    assert load.seconds == 240
    assert by_minute[[1, 2]].tolist() == [0, 0]
    assert by_minute[[0, 3]] == pytest.approx([500, 1000], rel=0.03)
    tokens = load.input_tokens.sum() + load.output_tokens.sum()
    assert tokens == pytest.approx(50 * 60 * 3600, rel=0.03)


def test_percent_of_peak_becomes_a_straight_line_between_points(tmp_path: Path) -> None:
    path = written(tmp_path, PERCENT)
    load = load_source(f"{path}?input=100&output=20&peak=400&spread=0")
    by_minute = load.by_minute("requests")
    assert load.seconds == 7200
    assert by_minute[[30, 60, 90]] == pytest.approx([200, 400, 300], rel=0.05)
    assert load.input_tokens.sum() == 100 * load.total_requests


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        (TOKENS, "", r"rates, no requests: input, output must be stated.*csv\?input=1000"),
        (PERCENT, "?input=1&output=1", "peak must be stated"),
        (PERCENT, "?input=1&output=1&peak=x", "peak is 'x'"),
        (TOKENS + "2,5\n", "?input=1&output=1", "csv:5: minute is 2 after 3: it must rise"),
        (TOKENS + "3.5,5\n", "?input=1&output=1", "csv:5: minute is 3.5: a whole number"),
        (TOKENS + "4,-5\n", "?input=1&output=1", "csv:5: total_tokens_per_s is -5"),
        (TOKENS + "4\n", "?input=1&output=1", "csv:5: total_tokens_per_s is None: not a number"),
        (TOKENS + "999999,5\n", "?input=1&output=1", "csv:5: minute is 999999: more than 60"),
        (PERCENT + "nan,5\n", "?input=1&output=1&peak=1", "csv:5: hour is nan"),
        ("minute,total_tokens_per_s\n0,1\n", "?input=1&output=1", "at least two points; found 1"),
        ("t_s,input_tokens,output_tokens\n0,1,1\n", "?peak=3", "takes no options .peak=3."),
    ],
)
def test_a_curve_is_read_strictly(tmp_path: Path, text: str, options: str, complaint: str) -> None:
    with pytest.raises(TraceError, match=complaint):
        load_source(f"{written(tmp_path, text)}{options}")


def test_a_recording_is_read_as_it_is_also_with_a_mark_in_its_name(tmp_path: Path) -> None:
    text = "t_s,input_tokens,output_tokens\n0,10,2\n1,30,0\n"
    load = load_source(str(written(tmp_path, text, "what?.csv")))
    assert load.input_tokens.sum() == 40
    assert load.notes == ("lengths of zero tokens that were read as one token: 1",)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_like_a_file(tmp_path: Path, packed: bool) -> None:
    text = b"t_s,input_tokens,output_tokens\n" + b"".join(b"%d,10,2\n" % s for s in range(99))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(
        target=pipe.write_bytes, args=(gzip.compress(text) if packed else text,)
    )
    writer.start()
    load = load_source(str(pipe))
    writer.join()
    assert load.total_requests == 99


# ---- parts ---------------------------------------------------------------------------------


def test_the_last_minute_may_be_short() -> None:
    requests = np.ones((90, 2))
    load = Load(requests, requests * [10, 20], requests * [1, 3])
    assert load.by_minute("output_tokens").tolist() == [4, 4]


def test_a_load_is_cut_to_what_is_there() -> None:
    requests = np.arange(10.0)[:, None]
    load = Load(requests, requests, requests, ("a note",))
    assert load.cut(2, 3).requests[:, 0].tolist() == [2, 3, 4]
    assert load.cut(8, 30).seconds == 2
    assert load.cut(8).input_tokens.sum() == 17
    assert load.cut(3).notes == ("a note",)
    with pytest.raises(ValueError, match="start at 10 s: the traffic lasts 10 s"):
        load.cut(10)
    with pytest.raises(ValueError, match="a duration of 0 s"):
        load.cut(0, 0)


# ---- a load in figures ---------------------------------------------------------------------


def test_a_summary_counts_what_is_there(tmp_path: Path) -> None:
    requests = np.zeros((7200, 2))
    requests[0, 0], requests[3700, 1] = 99, 1
    prompt, output = requests * [10, 1000], requests * [5, 10]
    got = summary(Load(requests, prompt, output, ("a note",)))
    assert (got.requests, got.seconds) == (100, 7200)
    assert got.mean_rate == 100 / 7200
    assert got.peak_minute_rate == 99 / 60
    assert got.input_mean == pytest.approx(19.9)
    assert (got.input_p99, got.output_p99) == (10, 5)
    assert (got.ratio_low, got.ratio_high) == (2, 100)
    assert got.longest_gap == 3699
    assert got.empty_minutes == 118 / 120
    text = "\n".join(got.lines())
    for part in (
        "100 requests in 2.0 h",
        "a note",
        "longest silence: 61.6 min",
        "98.3% of minutes",
    ):
        assert part in text


def test_a_summary_of_silence_has_no_means() -> None:
    none = np.zeros((90, 1))
    got = summary(Load(none, none, none))
    assert (got.requests, got.input_mean, got.ratio_low, got.longest_gap) == (0, None, None, 90)
    assert got.lines()[0].startswith("0 requests in 90 s")


def test_real_curves_become_loads() -> None:
    folder = os.environ.get("HETEROSCALE_TRACES")
    if not folder:
        pytest.skip("HETEROSCALE_TRACES names no folder with real traces")
    day = load_source(f"{folder}/paper_daily_load.csv?input=1000&output=200&peak=100")
    assert day.seconds == 86400
    assert summary(day).mean_rate == pytest.approx(47, abs=1)
