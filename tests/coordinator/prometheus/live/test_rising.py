"""Counters made to grow for ever."""

from __future__ import annotations

from heteroscale_coordinator.edge.prometheus.live.rising import LONGEST_GAP, Rising, Summed


def test_resets_jitter_and_nonsense() -> None:
    counter = Rising()
    steps = [(100, 0), (150, 50), (140, 50), (155, 55), (20, 75), (None, None), (30, 85)]
    for place, (raw, total) in enumerate(steps):
        assert counter.fold(raw, 10.0 * place) == total, place
    assert counter.fold(1e15, 80.0) is None, "no machine does that"
    assert counter.fold(40.0, 90.0) == 95


def test_rates_are_summed_as_long_as_they_are_told() -> None:
    counter = Summed()
    assert counter.fold(5.0, 0.0) == 0.0
    assert counter.fold(5.0, 10.0) == 50.0
    assert counter.fold(None, 20.0) is None
    assert counter.fold(2.0, 30.0) == 90.0
    assert counter.fold(2.0, 31.0 + LONGEST_GAP) == 0.0, "what came meanwhile is not known"
