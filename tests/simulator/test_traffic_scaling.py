"""Recordings as loads: what is kept at K = 1, what holds for any K, and the draws behind it."""

from __future__ import annotations

import gzip
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from heteroscale_simulator.traffic.draw import length_sums, neighbourhood, spread
from heteroscale_simulator.traffic.load import Floats, Load
from heteroscale_simulator.traffic.recording import load_rows, load_trace
from heteroscale_simulator.traffic.rows import Rows, TraceError

Triple = tuple[float, int, int]
TIMES = st.floats(0, 400, allow_subnormal=False)
TRIPLES = st.lists(
    st.tuples(TIMES, st.integers(1, 100_000), st.integers(1, 4000)), min_size=1, max_size=60
)


def rows(triples: list[Triple]) -> Rows:
    at, prompt, output = np.array(sorted(triples), dtype=np.float64).T
    return Rows(at, prompt, output, np.arange(2, 2 + len(at)))


def load(triples: list[Triple], factor: float = 1.0, seed: int = 0, classes: int = 8) -> Load:
    result = load_rows(iter([rows(triples)]), factor, seed, classes)
    assert result is not None
    return result


def same(one: Load, other: Load) -> bool:
    return all(
        np.array_equal(getattr(one, column), getattr(other, column))
        for column in ("requests", "input_tokens", "output_tokens")
    )


def busy(count: int, seconds: int, seed: int = 3) -> list[Triple]:
    """Return requests at a steady rate, with lengths of a long tail."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, seconds, count)
    prompt = np.ceil(rng.lognormal(6, 1.2, count)).astype(int)
    output = np.ceil(rng.lognormal(4, 0.8, count)).astype(int)
    return list(zip(at.tolist(), prompt.tolist(), output.tolist(), strict=True))


# ---- K = 1 ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(TRIPLES, st.integers(1, 20))
def test_at_one_every_request_stays_in_its_second(triples: list[Triple], classes: int) -> None:
    got = load(triples, classes=classes)
    for column, weight in (("requests", 0), ("input_tokens", 1), ("output_tokens", 2)):
        expected: Counter[int] = Counter()
        for triple in triples:
            expected[int(triple[0])] += triple[weight] if weight else 1  # type: ignore[assignment]
        by_second = getattr(got, column).sum(axis=1)
        assert {s: v for s, v in enumerate(by_second) if v} == dict(expected)
    assert got.seconds == int(max(triple[0] for triple in triples)) + 1
    assert 1 <= got.classes <= classes
    assert got.requests.sum(axis=0).all()


def test_the_tail_of_the_prompts_has_classes_of_its_own() -> None:
    got = load(busy(20_000, 1000))
    means = np.sort(got.input_tokens.sum(axis=0) / got.requests.sum(axis=0))
    assert got.classes == 8
    assert means[-1] > 10 * means[0]
    share = got.requests.sum(axis=0) / got.total_requests
    assert np.sort(share)[:2].sum() == pytest.approx(0.01, abs=0.002)


# ---- any K ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(TRIPLES, st.floats(0.05, 300), st.integers(0, 99))
def test_a_scaled_load_is_sound_and_repeats_itself(
    triples: list[Triple], factor: float, seed: int
) -> None:
    got = load(triples, factor, seed)
    assert same(got, load(triples, factor, seed))
    expected = factor * len(triples)
    part = factor - math.floor(factor)
    assert abs(got.total_requests - expected) <= 6 * math.sqrt(len(triples) * part * (1 - part)) + 1
    assert got.seconds == int(max(triple[0] for triple in triples)) + 1
    for tokens, which in ((got.input_tokens, 1), (got.output_tokens, 2)):
        lengths = [triple[which] for triple in triples]
        assert np.isfinite(tokens).all()
        assert (tokens >= got.requests * min(lengths)).all()
        assert (tokens <= got.requests * max(lengths)).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 1000), st.integers(0, 99))
def test_whole_factors_keep_the_total_to_the_request(factor: int, seed: int) -> None:
    triples = busy(50, 200)
    assert load(triples, factor, seed).total_requests == factor * 50


def test_other_seeds_make_other_loads() -> None:
    triples = busy(200, 100)
    assert not same(load(triples, 3, 1), load(triples, 3, 2))
    assert not same(load(triples, 0.5, 1), load(triples, 0.5, 2))


def test_a_row_is_spread_over_its_own_minute_and_no_further() -> None:
    triples: list[Triple] = [(0.0, 5, 5), (500.3, 100, 10), (999.0, 5, 5)]
    requests = load(triples, 6000).requests.sum(axis=1)
    where = np.flatnonzero(requests[100:900]) + 100
    assert where.min() >= 470
    assert where.max() <= 530
    assert requests[471:530].min() > 50
    assert requests[470:531].max() < 170


def test_lengths_come_from_the_same_minute() -> None:
    triples = [(float(s), 100 if s < 500 else 100_000, 10) for s in range(1000)]
    got = load(triples, 40)
    requests, tokens = got.requests.sum(axis=1), got.input_tokens.sum(axis=1)
    assert (tokens[:470] == 100 * requests[:470]).all()
    assert (tokens[530:] == 100_000 * requests[530:]).all()


def test_the_ends_are_as_dense_as_the_middle() -> None:
    triples = [(float(s), 100, 10) for s in range(600)]
    counts = np.sum([load(triples, 50, seed).requests.sum(axis=1) for seed in range(20)], axis=0)
    rate, noise = 20 * 50, math.sqrt(20 * 50 / 30)
    for stretch in (counts[:30], counts[285:315], counts[-30:]):
        assert abs(stretch.mean() - rate) < 5 * noise


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.5, 7, 120])
def test_rates_and_mean_lengths_are_kept(factor: float) -> None:
    triples = busy(20_000, 3000)
    before, after = load(triples), load(triples, factor)
    noise = 5 / math.sqrt(20_000 * min(factor, 1))
    for column in ("requests", "input_tokens", "output_tokens"):
        was, now = getattr(before, column).sum(), getattr(after, column).sum()
        assert now / (factor * was) == pytest.approx(1, abs=noise * 1.8)
    # The tail's lengths too: a mean over ten minutes of each class.
    was = before.input_tokens[:600].sum(axis=0) / before.requests[:600].sum(axis=0)
    now = after.input_tokens[:600].sum(axis=0) / after.requests[:600].sum(axis=0)
    np.testing.assert_allclose(now, was, rtol=0.35)


def one_by_one(triples: list[Triple], factor: int, seconds: int, seed: int) -> Floats:
    """Return what is stated, done plainly for every single request: requests and prompts by second."""
    rng = np.random.default_rng(seed)
    at = np.array([triple[0] for triple in triples])
    prompt = np.array([triple[1] for triple in triples], dtype=np.float64)
    sums = np.zeros((2, seconds))
    for when in np.repeat(at, factor) + rng.uniform(-30, 30, factor * len(at)):
        placed = when % (2 * seconds)
        placed = min(placed if placed < seconds else 2 * seconds - placed, seconds - 1e-9)
        near = np.flatnonzero(abs(at - placed) <= 30)
        sums[:, int(placed)] += 1, prompt[rng.choice(near)]
    return sums


def test_sums_are_drawn_as_single_requests_would_be() -> None:
    triples = [(300 * (at / 300) ** 3, i, o) for at, i, o in busy(400, 300)]
    runs, factor, stretch = 30, 4, np.arange(0, 300, 30)
    plain = np.mean([one_by_one(triples, factor, 300, seed) for seed in range(runs)], axis=0)
    loads = [load([*triples, (299.99, 1, 1)], factor, seed) for seed in range(runs)]
    for row, column in enumerate(("requests", "input_tokens")):
        fast = np.mean([getattr(one, column).sum(axis=1) for one in loads], axis=0)
        expected = np.add.reduceat(plain[row], stretch)
        np.testing.assert_allclose(np.add.reduceat(fast, stretch), expected, rtol=0.12)


def test_thinning_leaves_rows_where_they_are() -> None:
    triples = busy(3000, 300)
    before, after = load(triples), load(triples, 0.25)
    assert (after.requests.sum(axis=1) <= before.requests.sum(axis=1)).all()
    assert after.total_requests == pytest.approx(750, abs=5 * math.sqrt(3000 * 0.25 * 0.75))
    assert load([(10.0, 5, 5)], 1e-9).total_requests == 0
    assert load([(10.0, 5, 5)], 1e-9).seconds == 11


def test_a_billion_requests_cost_no_more_than_a_few() -> None:
    got = load(busy(1000, 3600), 1e6)
    assert got.total_requests == 1e9
    with pytest.raises(ValueError, match=r"at most 1e\+15 are counted"):
        load(busy(1000, 3600), 1e15)


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf])
def test_a_rate_scale_that_makes_no_sense_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="a finite number above 0"):
        load([(0.0, 1, 1)], factor)


def test_no_requests_and_no_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,input_tokens,output_tokens\n")
    with pytest.raises(TraceError, match="no requests in it"):
        load_trace(path)
    with pytest.raises(ValueError, match="classes is 0"):
        load([(0.0, 1, 1)], classes=0)


# ---- the draws behind it -------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=90), st.integers(1, 40))
def test_the_neighbourhood_is_a_reflected_box_that_loses_nothing(
    values: list[int], reach: int
) -> None:
    size = len(values)
    expected = np.zeros(size)
    for second, value in enumerate(values):
        for offset in range(-reach, reach + 1):
            weight = (0.5 if abs(offset) == reach else 1.0) / (2 * reach)
            there = (second + offset) % (2 * size)
            expected[there if there < size else 2 * size - 1 - there] += value * weight
    got = neighbourhood(np.array(values, dtype=np.float64), reach)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert got.sum() == pytest.approx(sum(values))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=70).filter(any),
    st.integers(0, 10**9),
    st.integers(0, 99),
)
def test_a_spread_keeps_its_total_and_leaves_weightless_seconds_empty(
    weights: list[float], total: int, seed: int
) -> None:
    array = np.array(weights)
    counts = spread(total, array, np.random.default_rng(seed))
    assert counts.sum() == total
    assert (counts[array == 0] == 0).all()


def test_a_spread_is_in_proportion() -> None:
    weights = np.arange(101.0)
    counts = spread(10**8, weights, np.random.default_rng(0))
    np.testing.assert_allclose(counts[1:], 1e8 * weights[1:] / weights.sum(), rtol=0.05)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_length_sums_have_the_mean_and_variance_of_independent_draws(count: int) -> None:
    counts: Floats = np.full(40_000, float(count))
    rng = np.random.default_rng(0)
    got = length_sums(counts, np.array(300.0), np.array(200.0**2), (10, 4000), rng)
    assert got.mean() == pytest.approx(300 * count, rel=0.02)
    assert got.var() == pytest.approx(200**2 * count, rel=0.06)
    assert got.min() >= 10 * count
    assert got.max() <= 4000 * count


def test_a_two_point_distribution_of_lengths_stays_one() -> None:
    rng = np.random.default_rng(0)
    got = length_sums(np.ones(10_000), np.array(40.0), np.array(30.0 * 60.0), (10, 100), rng)
    assert set(np.unique(got)) <= {10.0, 100.0}
    assert got.mean() == pytest.approx(40, rel=0.05)


# ---- real traces ---------------------------------------------------------------------------

KNOWN = {
    "azure2023_conv": (19_366, 3502),
    "azure2023_code": (8_819, 3436),
    "mooncake_conversation": (12_031, 3537),
    "servegen_large_A": (728_928, 172_800),
}


def real(name: str) -> Path:
    folder = os.environ.get("HETEROSCALE_TRACES")
    if not folder:
        pytest.skip("HETEROSCALE_TRACES names no folder with real traces")
    path = Path(folder) / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} in HETEROSCALE_TRACES")
    return path


@pytest.mark.parametrize("name", KNOWN)
def test_real_traces_are_read_whole(name: str) -> None:
    path = real(name)
    got = load_trace(path)
    assert (got.total_requests, got.seconds) == KNOWN[name]
    with gzip.open(path, "rt") as file:
        table: NDArray[np.float64] = np.loadtxt(file, delimiter=",", skiprows=1)
    assert got.input_tokens.sum() == np.maximum(1, table[:, 1]).sum()
    assert got.output_tokens.sum() == np.maximum(1, table[:, 2]).sum()


@pytest.mark.parametrize("name", KNOWN)
def test_real_traces_keep_their_hours_when_scaled(name: str) -> None:
    path = real(name)
    before, after = load_trace(path), load_trace(path, 56)
    step = min(3600, before.seconds // 3)
    starts = np.arange(0, before.seconds - step, step)
    for column, bound in (("requests", 0.05), ("input_tokens", 0.15), ("output_tokens", 0.15)):
        was = np.add.reduceat(getattr(before, column).sum(axis=1), starts)
        now = np.add.reduceat(getattr(after, column).sum(axis=1), starts)
        np.testing.assert_allclose(now / 56, was, rtol=bound)
