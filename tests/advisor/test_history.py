"""Answers become slots; what nobody saw is unknown, and makes what was summed over it unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_advisor.history import STOOD, UP, Grid, fold
from heteroscale_coordinator.edge.prometheus.answers import Matrix
from tests.advisor.day import OUTPUT, PROMPT, START, Day

STEADY = Day(lambda _t: 12.0)


def test_sums_are_over_instances_and_latency_is_of_sums() -> None:
    history = STEADY.history(1800)
    prefill, decode = history.roles[Role.PREFILL], history.roles[Role.DECODE]
    assert history.known[1:].all()
    assert prefill.work[5] == pytest.approx(12 * PROMPT)
    assert decode.load[5] == pytest.approx(12 * OUTPUT / 8)
    assert decode.mean("tbt")[5] == pytest.approx(0.015 + 0.02 * 1.5 * OUTPUT / 1100)
    assert (decode.count == 8).all()
    assert prefill.gpu_types == ("L20",)
    assert history.missing[Role.DECODE] == ("ttft_sum", "ttft_count", "transferring")


def test_a_hole_in_one_instance_makes_the_sum_unknown_but_not_the_count() -> None:
    day = replace(STEADY, unseen=lambda pod, t: pod == "chat-decode-3" and 600 <= t < 900)
    history = day.history(1800)
    decode = history.roles[Role.DECODE]
    assert np.isnan(decode.work[10:15]).all()
    assert np.isfinite(decode.work[15:]).all()
    assert (decode.count == 8).all()
    assert not history.known[10:15].any()
    assert history.known[16:].all()


def test_an_instance_that_came_late_or_left_is_not_a_hole() -> None:
    def away(pod: str, t: float) -> bool:
        return (pod == "chat-decode-7" and t < 600) or (pod == "chat-decode-6" and t >= 1200)

    history = replace(STEADY, unseen=away).history(1800)
    assert history.roles[Role.DECODE].count.tolist() == [7] * 10 + [8] * 10 + [7] * 10
    assert history.known[1:].all()


def test_when_nobody_looked_nothing_is_known() -> None:
    history = replace(STEADY, unseen=lambda _pod, t: 600 <= t < 900).history(1800)
    assert not history.known[10:15].any()
    assert np.isnan(history.roles[Role.PREFILL].work[10:15]).all()


def test_partial_answers_are_left_out_and_told() -> None:
    grid = Grid(START, 60.0, 10)
    answers = STEADY.answers(grid)
    (whole,) = answers["generation_tokens"]
    answers["generation_tokens"] = [Matrix(whole.series, ("a store is away",))]
    history = fold(grid, STEADY.seen(), answers, "pod")
    assert history.warnings == ("a store is away",)
    assert not history.known.any()
    assert np.isnan(history.roles[Role.DECODE].work).all()


def test_series_of_strangers_are_left_out() -> None:
    grid = Grid(START, 60.0, 10)
    answers = STEADY.answers(grid)
    answers["running"] += [Matrix((({"pod": "other"}, ((START, 5.0),)), ({}, ((START, 5.0),))))]
    history = fold(grid, STEADY.seen(), answers, "pod")
    assert (history.roles[Role.DECODE].count == 8).all()


def test_counters_that_appear_on_use_stand_at_zero_while_nothing_is_queued() -> None:
    grid = Grid(START, 60.0, 4)
    seen = tuple(replace(one, engine="sglang") for one in STEADY.seen())
    times = [START + 60.0 * n for n in range(4)]

    def gauge(value: float) -> list[Matrix]:
        rows = tuple(({"pod": one.name}, tuple((at, value) for at in times)) for one in seen)
        return [Matrix(rows)]

    idle = fold(grid, seen, {"running": gauge(0), "waiting": gauge(0)}, "pod")
    assert (idle.roles[Role.DECODE].work == 0).all()
    busy = fold(grid, seen, {"running": gauge(1), "waiting": gauge(0)}, "pod")
    assert np.isnan(busy.roles[Role.DECODE].work[1:]).all()


def test_an_instance_that_was_away_and_came_back_new_is_counted_less() -> None:
    """Of a StatefulSet that was scaled in and out again the pods have their old names."""
    away = replace(STEADY, unseen=lambda pod, t: pod == "chat-decode-7" and 600 <= t < 1200)
    grid = Grid(START, 60.0, 30)

    def tried(name: str, slot: int) -> bool:
        return name != "chat-decode-7" or not 10 <= slot < 18

    def stood(name: str, slot: int) -> float:
        return 60.0 * (slot - 20 if name == "chat-decode-7" and slot >= 20 else slot)

    rows = {
        UP: [
            (
                {"pod": one.name},
                tuple((START + 60.0 * n, 1.0) for n in range(30) if tried(one.name, n)),
            )
            for one in away.seen()
        ],
        STOOD: [
            ({"pod": one.name}, tuple((START + 60.0 * n, stood(one.name, n)) for n in range(30)))
            for one in away.seen()
        ],
    }
    answers = away.answers(grid)
    history = fold(grid, away.seen(), answers, "pod")
    assert not history.known[10:20].any()
    told = {name: [Matrix(tuple(found))] for name, found in rows.items()}
    history = fold(grid, away.seen(), {**answers, **told}, "pod")
    assert history.known[1:].all()
    assert history.roles[Role.DECODE].count.tolist() == [8] * 10 + [7] * 10 + [8] * 10
