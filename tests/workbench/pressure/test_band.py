"""The band: as far as the recording's own need moves, widened, within what was tested and links take."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_simulator.traffic.traces import TraceError
from heteroscale_workbench.pressure.band import (
    LINKS_BUSY,
    WIDENED,
    Band,
    Capacity,
    band_of,
    needed,
)
from heteroscale_workbench.pressure.finding import Finding
from heteroscale_workbench.pressure.values import Counts, Limit, Trial
from heteroscale_workbench.pressure.workload import Course, recorded

EACH = Capacity(prefill=10_000.0, decode=1_000.0)
ANY = (0.0, math.inf)


def course(prompts: list[float], output: float = 100.0, *, a_minute: int = 600) -> Course:
    """Return minutes, each with requests of one length, evenly spread."""
    at = np.arange(len(prompts) * a_minute) * 60.0 / a_minute
    prompt = np.repeat(np.array(prompts), a_minute)
    return Course(at, prompt, np.full(len(at), output), np.ones(len(at)))


def test_a_need_that_never_moves_gives_the_widening_alone() -> None:
    band = band_of(course([1000.0] * 20), 1.0, ANY, EACH)
    assert (band.low, band.high) == pytest.approx((1 / WIDENED, WIDENED))


def test_the_band_goes_as_far_as_the_need() -> None:
    """Of 1,000 prompt tokens to 100 a 1:1 is needed; of 500 half of it, of 3,000 three times."""
    band = band_of(course([500.0] * 20 + [1000.0] * 20 + [3000.0] * 20), 1.0, ANY, EACH)
    assert (band.low, band.high) == pytest.approx((0.5 / WIDENED, 3 * WIDENED))
    assert "0.5 to 3" in band.because


def test_a_role_that_slows_down_with_long_prompts_is_needed_more_of() -> None:
    """Of 3,000 prompt tokens to 100 a 3:1 is needed; of prefill at half its speed, 6:1."""
    minutes = course([1000.0] * 20 + [3000.0] * 20)
    slows = replace(EACH, factors={Role.PREFILL: {1000: 1.0, 3000: 0.5}})
    band = band_of(minutes, 1.0, ANY, slows)
    assert (band.low, band.high) == pytest.approx((1 / WIDENED, 6 * WIDENED))


def test_a_single_odd_minute_does_not_set_it() -> None:
    band = band_of(course([1000.0] * 300 + [3000.0]), 1.0, ANY, EACH)
    assert band.high == pytest.approx(WIDENED)


def test_the_tested_ratio_is_always_inside() -> None:
    band = band_of(course([500.0] * 20), 2.0, ANY, EACH)
    assert (band.low, band.high) == pytest.approx((0.5 / WIDENED, 2 * WIDENED))


def test_it_ends_where_no_split_held_a_load() -> None:
    band = band_of(course([200.0] * 20 + [3000.0] * 20), 1.0, (0.5, 2.0), EACH)
    assert (band.low, band.high) == (0.5, 2.0)
    assert "cut at the low and high end" in band.because


def test_it_ends_where_the_links_of_decode_are_full() -> None:
    links = Capacity(EACH.prefill, EACH.decode, links=20_000.0)
    band = band_of(course([1000.0] * 20 + [9000.0] * 20), 1.0, ANY, links)
    assert band.high == pytest.approx(2 * LINKS_BUSY)
    # The tested one held, whatever a formula says of the links.
    full = Capacity(EACH.prefill, EACH.decode, links=5_000.0)
    assert band_of(course([1000.0] * 20), 1.0, ANY, full).high == 1.0


def test_of_stated_lengths_nothing_is_known_but_the_test() -> None:
    band = band_of(None, 2.0, ANY, EACH)
    assert (band.low, band.high) == pytest.approx((2 / WIDENED, 2 * WIDENED))
    assert "lengths stated" in band.because


def test_few_requests_are_looked_at_in_longer_stretches() -> None:
    ratio, weight, stretch = needed(course([1000.0] * 40, a_minute=10), EACH)
    assert stretch == 600.0
    assert len(ratio) == len(weight) == 4
    assert ratio == pytest.approx(1.0)


def test_minutes_without_a_request_need_nothing() -> None:
    one = course([1000.0] * 10)
    both = (np.tile(column, 2) for column in (one.prompt, one.output, one.weight))
    later = Course(np.append(one.at, one.at + 1200), *both)
    ratio, _, _ = needed(later, EACH)
    assert np.isfinite(ratio).all()
    assert len(ratio) == 20


def test_it_is_written_as_a_service_has_it() -> None:
    assert Band(0.74567, 4.5362, "").written == "{min: 0.746, max: 4.54}"


def test_a_generator_is_a_workload_as_a_recording_is(tmp_path: Path) -> None:
    drift = recorded("gen:ratio-drift?hours=1&period=1&peak=50")
    assert drift.course is not None
    band = band_of(drift.course, 1.0, ANY, EACH)
    # 2.5 to 25 in:out at 10 tokens/s of prefill for one of decode.
    assert band.low < 0.35
    assert band.high > 2.0
    assert drift.mean_prompt / drift.mean_output == pytest.approx(8, rel=0.5)
    empty = tmp_path / "empty.csv"
    empty.write_text("t_s,input_tokens,output_tokens\n")
    for nothing in (str(empty), "gen:steady?peak=0"):
        with pytest.raises(TraceError, match="no request"):
            recorded(nothing)


def limit(prefill: int, decode: int, *, held: bool = True) -> Limit:
    counts = Counts(prefill, decode)
    return Limit(counts, Trial(counts, 9.0, 1.0, 900.0, 90.0, 0.1, 0.01) if held else None, 5)


def test_a_split_that_held_no_load_is_a_bound_and_the_last_one_tested_is_none() -> None:
    limits = [limit(1, 3), limit(2, 2), limit(3, 1)]
    assert Finding(limits, limits[1]).bounds == (0.0, math.inf)
    limits[2] = limit(3, 1, held=False)
    assert Finding(limits, limits[1]).bounds == (0.0, 1.0)
    limits[0] = limit(1, 3, held=False)
    assert Finding(limits, limits[1]).bounds == (1.0, 1.0)
