"""Counters that only grow, latency on the wire's grid, and reports that merge without loss."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import LATENCY_BOUNDS_MS, ScrapeQuality
from heteroscale_agent.model import EngineScrape, LatencyReading, Report
from heteroscale_agent.sample import (
    Counter,
    EngineSampler,
    Latency,
    grid_bucket,
    merge,
)


def folded(*readings: float | None, most: float = 1000.0) -> list[float | None]:
    """Fold readings that are a second apart."""
    counter = Counter(0.0, most)
    return [counter.fold(value, float(at)) for at, value in enumerate(readings)]


def test_a_counter_starts_at_zero_when_first_seen() -> None:
    assert folded(500, 510, 530) == [0, 10, 30]


def test_a_restart_counts_on() -> None:
    assert folded(500, 600, 20, 50) == [0, 100, 120, 150]
    assert folded(500, 600, 0, 0, 50) == [0, 100, 100, 100, 150]


def test_a_small_dip_is_no_restart() -> None:
    assert folded(500, 600, 590, 605) == [0, 100, 100, 105]


def test_unknown_stays_unknown_and_nothing_is_lost() -> None:
    assert folded(500, None, 600) == [0, None, 100]


def test_an_absurd_jump_is_unknown_and_forgotten() -> None:
    assert folded(500, 1e12, 600, 650) == [0, None, 100, 150]


def test_a_restart_cannot_claim_more_than_time_allowed() -> None:
    assert folded(1e9, 2_000_000, 2_000_010) == [0, 0, 10]


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e15), st.floats(0, 5000)), min_size=1, max_size=40)
)
def test_a_counter_never_falls_and_never_outruns_its_source(readings: list[float | None]) -> None:
    totals = [total for total in folded(*readings) if total is not None]
    assert all(b >= a for a, b in pairwise(totals))
    # A second each, but a reading after unknown ones may bring what they held back.
    assert all(total <= 1000.0 * len(readings) for total in totals)


@pytest.mark.parametrize(
    ("bound", "grid"), [(0.05, 50), (0.06, 75), (0.1, 100), (0.002, 2), (0.0005, 1), (60.0, 60000)]
)
def test_a_bucket_goes_where_its_upper_bound_lies(bound: float, grid: int) -> None:
    assert LATENCY_BOUNDS_MS[grid_bucket(bound)] == grid


@pytest.mark.parametrize("bound", [80.0, float("inf")])
def test_what_is_beyond_the_grid_is_in_the_last_bucket(bound: float) -> None:
    assert grid_bucket(bound) == len(LATENCY_BOUNDS_MS)


def reading(*counts: float, seconds: float = 1.0) -> LatencyReading:
    return LatencyReading(seconds, sum(counts), (0.05, 0.1), counts)


def test_latency_reports_deltas_once() -> None:
    latency = Latency()
    assert latency.fold(reading(1, 2, 3), 0.0)
    assert latency.report().bucket_deltas == ()
    assert latency.fold(reading(5, 2, 4, seconds=3.0), 1.0)
    seen = latency.report()
    assert (seen.sum_seconds, seen.count) == (2.0, 5.0)
    assert seen.bucket_deltas[grid_bucket(0.05)] == 4
    assert seen.bucket_deltas[-1] == 1
    assert sum(seen.bucket_deltas) == 5
    assert latency.report().bucket_deltas == ()
    assert latency.report().count == 5


ENGINE_BOUNDS = {
    "vllm ttft": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
    ),
    "vllm tbt": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
        *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    ),
    "sglang ttft": (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400),
    "llm-d tpot": (0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2),
    "one bound": (0.05,),
}


@given(
    bounds=st.sampled_from(sorted(ENGINE_BOUNDS.values())),
    batches=st.lists(st.lists(st.floats(0.0001, 500.0), max_size=20), min_size=1, max_size=6),
)
def test_the_grid_keeps_every_observation_and_flatters_none(
    bounds: tuple[float, ...], batches: list[list[float]]
) -> None:
    latency = Latency()
    seen: list[float] = []
    total = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latency.fold(LatencyReading(0, 0, bounds, (0.0,) * (len(bounds) + 1)), 0.0)
    for at, batch in enumerate(batches, start=1):
        seen += batch
        edges = (0.0, *bounds, math.inf)
        counts = tuple(
            float(sum(low < value <= high for value in seen)) for low, high in pairwise(edges)
        )
        assert latency.fold(LatencyReading(sum(seen), len(seen), bounds, counts), float(at))
        for place, count in enumerate(latency.report().bucket_deltas):
            total[place] += count
    assert sum(total) == len(seen) == latency.report().count
    for place, bound in enumerate(LATENCY_BOUNDS_MS):
        really = sum(value * 1000 <= bound for value in seen)
        assert sum(total[: place + 1]) <= really


def test_buckets_with_other_bounds_than_before_are_not_guessed() -> None:
    latency = Latency()
    latency.fold(LatencyReading(1.0, 10, (0.1,), (10, 0)), 0.0)
    assert latency.fold(LatencyReading(1.5, 14, (0.2,), (13, 1)), 1.0)
    # The mean is as exact as ever; which bucket the four belong to, nobody knows.
    seen = latency.report()
    assert (seen.sum_seconds, seen.count, seen.bucket_deltas) == (0.5, 4, ())
    latency.fold(LatencyReading(1.6, 16, (0.2,), (15, 1)), 2.0)
    assert sum(latency.report().bucket_deltas) == 2


def test_buckets_that_come_back_are_not_counted_from_the_start() -> None:
    latency = Latency()
    latency.fold(reading(100, 0, 0, seconds=1.0), 0.0)
    latency.fold(LatencyReading(1.1, 102), 1.0)
    latency.fold(reading(103, 0, 0, seconds=1.2), 2.0)
    assert sum(latency.report().bucket_deltas) == 0


def test_trailing_zeros_are_left_out() -> None:
    latency = Latency()
    latency.fold(reading(0, 0, 0, seconds=0), 0.0)
    latency.fold(reading(3, 0, 0, seconds=0.1), 1.0)
    assert len(latency.report().bucket_deltas) == grid_bucket(0.05) + 1


def test_latency_counts_on_after_a_restart() -> None:
    latency = Latency()
    latency.fold(reading(100, 0, 0, seconds=4), 0.0)
    latency.fold(reading(2, 1, 0, seconds=0.2), 1.0)
    seen = latency.report()
    assert (seen.sum_seconds, seen.count, sum(seen.bucket_deltas)) == (0.2, 3, 3)


def test_a_histogram_that_first_shows_with_its_buckets_is_counted_whole() -> None:
    latency = Latency()
    latency.fold(LatencyReading(0, 0), 0.0)
    latency.fold(reading(1, 1, 0, seconds=0.1), 1.0)
    assert sum(latency.report().bucket_deltas) == 2


def test_an_absurd_latency_is_unknown() -> None:
    latency = Latency()
    latency.fold(reading(1, 0, 0), 0.0)
    assert not latency.fold(reading(2, 0, 0, seconds=1e12), 1.0)
    assert not latency.fold(reading(1e14, 0, 0), 1.0)
    assert latency.fold(reading(2, 0, 0, seconds=1.5), 2.0)
    assert latency.report().count == 1


def busy(tokens: float, *counts: float) -> EngineScrape:
    return EngineScrape(
        generation_tokens=tokens, running=1.0, waiting=0.0, time_between_tokens=reading(*counts)
    )


def test_an_engine_report_keeps_unknown_apart_from_zero() -> None:
    engine = EngineSampler()
    engine.fold(busy(100, 0, 0, 0), 0.0)
    engine.fold(busy(130, 2, 0, 0), 1.0)
    seen = engine.report("a", ScrapeQuality.OK, 0.1)
    assert (seen.generation_tokens, seen.prompt_tokens, seen.running) == (30, None, 1)
    assert seen.time_to_first_token is None
    stale = engine.report("a", ScrapeQuality.STALE, 5.0)
    assert (stale.generation_tokens, stale.age) == (30, 5.0)
    missing = engine.report("a", ScrapeQuality.MISSING, 9.0)
    assert missing.generation_tokens is None
    assert missing.running is None


def test_merged_reports_lose_no_observation() -> None:
    engine = EngineSampler()
    engine.fold(busy(0, 0, 0, 0), 0.0)
    reports = []
    for at in range(1, 4):
        engine.fold(busy(at * 10, at, 2 * at, 0), float(at))
        reports.append(Report(float(at), 1.0, engines=(engine.report("a", ScrapeQuality.OK, 0.0),)))
    merged = merge(merge(reports[0], reports[1]), reports[2])
    latency = merged.engines[0].time_between_tokens
    assert (merged.sampled_at, merged.interval) == (3.0, 3.0)
    assert merged.engines[0].generation_tokens == 30
    assert latency is not None
    assert latency.bucket_deltas[grid_bucket(0.05)] == 3
    assert latency.bucket_deltas[grid_bucket(0.1)] == 6
    assert latency.count == sum(latency.bucket_deltas)
