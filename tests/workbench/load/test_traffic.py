"""Traffic to be sent: traces read and scaled, shapes made."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_workbench.load import (
    Arrival,
    Curve,
    Lengths,
    Scaling,
    TraceError,
    generate,
    read_trace,
    scale,
)
from tests.workbench.load.answers import (
    PLAIN,
)

# ---- traces --------------------------------------------------------------------------------

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-17 18:15:46.6805900,1,0\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    '{"timestamp": 27482, "input_length": 7322, "output_length": 490, "hash_ids": []}\n'
)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, [(0.0, 374, 44), (3.5, 10, 20)]),
        (AZURE, [(0.0, 374, 44), (4.314579, 396, 109), (86400.0, 1, 1)]),
        (MOONCAKE, [(0.0, 6758, 500), (27.482, 7322, 490)]),
    ],
    ids=["plain", "azure", "mooncake"],
)
def test_every_format_is_read(
    tmp_path: Path, text: str, expected: list[tuple[float, int, int]], packed: bool
) -> None:
    path = tmp_path / ("trace.gz" if packed else "trace")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    read = read_trace(path)
    assert [(a.input_tokens, a.output_tokens) for a in read] == [(i, o) for _, i, o in expected]
    assert [a.at for a in read] == pytest.approx([at for at, _, _ in expected], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3\n", "unknown format"),
        ("t_s,input_tokens,output_tokens\n0,1,1\nx,1,1\n", "trace.csv:3: t_s"),
        ("t_s,input_tokens,output_tokens\n-1,1,1\n", "negative"),
        ("t_s,input_tokens,output_tokens\nnan,1,1\n", "finite"),
        ('{"timestamp": 0}\n', "input_length"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "yesterday"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=complaint):
        read_trace(path)
    with pytest.raises(TraceError):
        read_trace(tmp_path / "missing.csv")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(PLAIN.encode())[:-9])
    with pytest.raises(TraceError):
        read_trace(tmp_path / "cut.gz")


ROWS = [Arrival(float(second), 100, 10) for second in range(100)]


def test_scaling_is_exact_where_it_can_be() -> None:
    assert scale(ROWS, Scaling()) == ROWS
    faster = scale(ROWS, Scaling(time=10, start=50, duration=2, max_input=7, max_output=3))
    assert [a.at for a in faster] == pytest.approx([i / 10 for i in range(20)])
    assert {(a.input_tokens, a.output_tokens) for a in faster} == {(7, 3)}
    assert len(scale(ROWS, Scaling(rate=3))) == 300


@given(st.floats(0, 4), st.integers(0, 1000))
def test_rate_scaling_keeps_the_mean_and_repeats_itself(rate: float, seed: int) -> None:
    played = scale(ROWS, Scaling(rate=rate, jitter=0.5), seed)
    assert played == scale(ROWS, Scaling(rate=rate, jitter=0.5), seed)
    assert abs(len(played) - 100 * rate) <= 35
    assert played == sorted(played, key=lambda a: a.at)


# ---- shapes --------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_traffic_and_another_other() -> None:
    curve, lengths = Curve.constant(20), Lengths(spread=0.5)
    assert generate(curve, lengths, 30, 7) == generate(curve, lengths, 30, 7)
    assert generate(curve, lengths, 30, 7) != generate(curve, lengths, 30, 8)


def test_arrivals_follow_the_curve() -> None:
    curve = Curve.humps(1, [(50, 20, 40)])
    assert curve.rate(0) == curve.rate(30) == curve.rate(70) == curve.rate(500) == 1
    assert curve.rate(50) == pytest.approx(20)
    assert 1 < curve.rate(40) < 20
    assert curve.rate(40) == pytest.approx(curve.rate(60))
    times = [a.at for a in generate(curve, Lengths(), 100, 1)]
    assert times == sorted(times)
    inside = sum(30 < at < 70 for at in times)
    assert inside > 5 * (len(times) - inside)


def test_ramps_days_and_overlapping_humps() -> None:
    assert Curve.ramp(0, 10, 100).rate(25) == 2.5
    day = Curve.diurnal(50, 240)
    assert max(day.rates) == 50
    assert day.rate(50) < 10
    both = Curve.humps(1, [(10, 5, 10), (12, 9, 10)])
    assert both.rate(12) == pytest.approx(9)
    assert generate(Curve.constant(0), Lengths(), 10) == []
    with pytest.raises(ValueError, match="not negative"):
        Curve.constant(-1)


def test_lengths_have_their_mean_and_their_bounds() -> None:
    lengths = Lengths(200, 50, spread=0.8, max_input=400, max_output=60)
    made = generate(Curve.constant(100), lengths, 60, 3)
    assert max(a.input_tokens for a in made) == 400
    assert min(a.output_tokens for a in made) >= 1
    wide = generate(Curve.constant(100), Lengths(200, 50, spread=0.8), 60, 3)
    assert sum(a.input_tokens for a in wide) / len(wide) == pytest.approx(200, rel=0.1)
