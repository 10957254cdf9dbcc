"""A track: how samples are thinned, what a fall cuts off, and how columns are read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from heteroscale.words import ScrapeQuality
from heteroscale_coordinator.core.model import EngineSample, LatencySample
from heteroscale_coordinator.core.track import SLOTS, Point, Samples, Track


def sample(at: float, tokens: float | None = None, **values: Any) -> EngineSample:
    return EngineSample("", ScrapeQuality.OK, at, generation_tokens=tokens, **values)


def track_of(*samples: EngineSample, spacing: float = 5.0) -> Track:
    track = Track(spacing)
    for one in samples:
        track.add(one)
    return track


def times(samples: Track | Samples) -> list[float]:
    return [point.at for point in samples]


def test_the_newest_replaces_the_one_before_until_that_is_old_enough() -> None:
    track = track_of(*(sample(at) for at in (0, 2, 4, 6, 8)))
    assert times(track) == [0, 6, 8]


def test_only_so_many_are_kept_and_none_that_is_older_or_failed() -> None:
    track = track_of(*(sample(5.0 * i) for i in range(SLOTS + 3)))
    assert len(track) == SLOTS
    assert times(track)[0] == 15.0
    track.add(sample(1.0))
    track.add(EngineSample("", ScrapeQuality.STALE, 1000.0))
    assert len(track) == SLOTS
    assert track.quality is ScrapeQuality.STALE
    assert track.age(5.0 * (SLOTS + 2) + 3) == 3.0


def test_a_window_holds_one_sample_more_than_its_seconds() -> None:
    track = track_of(*(sample(at) for at in (0, 10, 20, 30)))
    assert times(track.window(30, 15)) == [10, 20, 30]
    assert times(track.window(30, 10)) == [20, 30]
    assert times(track.window(30, 99)) == [0, 10, 20, 30]
    assert times(track.window(99, 1)) == [30]
    assert times(Track().window(99, 1)) == []


@pytest.mark.parametrize("seconds", [5, 1])
def test_a_counter_that_falls_cuts_off_what_came_before(seconds: float) -> None:
    """Also where the sample before the fall would have been replaced anyway."""
    track = track_of(sample(0, 100), sample(5, 150), sample(6, 190), sample(6 + seconds, 170))
    assert times(track) == [6 + seconds]
    track.add(sample(20, None))
    track.add(sample(25, 10))
    assert times(track) == [6 + seconds, 20, 25], "unknown is no fall"


def test_gauges_and_sums_may_fall() -> None:
    track = track_of(sample(0, running=9.0, waiting=1.0), sample(5, running=2.0, waiting=0.0))
    assert times(track) == [0, 5]


def test_points_tell_unknown_as_none_and_columns_as_nan() -> None:
    track = track_of(sample(0, 7, ttft=LatencySample(1.5, 3)))
    assert isinstance(track.newest, Point)
    assert (track.newest.generation_tokens, track.newest.prompt_tokens) == (7, None)
    assert (track.newest.ttft_sum, track.newest.ttft_count) == (1.5, 3)
    samples = track.window(0, 1)
    assert samples.value("generation_tokens", -1) == 7
    assert math.isnan(samples.value("prompt_tokens", 0))
    assert samples.tells("generation_tokens")
    assert not samples.tells("prompt_tokens")
    assert not Track().window(0, 1).tells("generation_tokens")


def test_sums_need_what_every_engine_tells() -> None:
    full = {"requests_finished": 50.0, "requests_aborted": 4.0, "running": 3.0, "waiting": 2.0}
    samples = track_of(
        sample(0, **full, transferring=1.0),
        sample(5, requests_finished=50.0, running=3.0, waiting=2.0),
        sample(10, requests_finished=50.0, running=3.0),
        sample(15, requests_finished=50.0, waiting=2.0),
    ).window(15, 60)
    assert list(samples.column("queued", 0, 2)) == [3, 2]
    assert list(samples.column("in_flight", 0, 2)) == [6, 5]
    assert list(samples.column("arrived", 0, 2)) == [60, 55]
    assert math.isnan(samples.value("queued", 2))
    assert samples.value("queued", 3) == 2
    assert all(math.isnan(value) for value in samples.column("in_flight", 2, 4))
    assert all(math.isnan(value) for value in samples.column("arrived", 2, 4))
    with pytest.raises(KeyError):
        samples.value("no_such_column", 0)


def test_a_rise_is_read_between_the_known_ends() -> None:
    counted = [None, 10.0, None, 40.0, None]
    track = track_of(*(sample(5.0 * i, tokens) for i, tokens in enumerate(counted)))
    samples = track.window(20, 60)
    assert samples.ends("generation_tokens", 0, 4) == (10, 40, 10)
    assert samples.ends("generation_tokens", 1, 3) == (10, 40, 10)
    assert samples.ends("generation_tokens", 2, 4) is None
    assert samples.ends("prompt_tokens", 0, 4) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_reading_that_cannot_be_is_unknown(value: float) -> None:
    """A negative gauge would make the laws' roots and rates nonsense; it is no reading at all."""
    track = Track()
    track.add(EngineSample("i-1", ScrapeQuality.OK, 1.0, running=value, generation_tokens=value))
    newest = track.newest
    assert newest is not None
    assert (newest.running, newest.generation_tokens) == (None, None)
