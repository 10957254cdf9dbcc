"""What an instance carries is what it was seen to carry while the promise was kept."""

from __future__ import annotations

import numpy as np
import pytest

from heteroscale.words import Role
from heteroscale_advisor.model import Promise, held_ratio, learn, promise_of, wanted_ratio
from tests.advisor.day import Day, swing

DAY = Day(swing(4.0, 24.0, 7200.0))
HISTORY = DAY.history(7200)
DECODE = HISTORY.roles[Role.DECODE]


def test_without_an_slo_what_was_held_stands_for_it() -> None:
    promise = promise_of(DECODE, "tbt", HISTORY.known, None)
    assert not promise.stated
    assert promise.seconds is not None
    weights = DECODE.values["tbt_count"][HISTORY.known]
    latency = DECODE.mean("tbt")[HISTORY.known]
    assert weights[latency > promise.seconds].sum() <= 0.01 * weights.sum()
    # And no less will do: without the slots at it, fewer than 99 of 100 would be kept.
    assert weights[latency < promise.seconds].sum() < 0.99 * weights.sum()
    assert promise_of(DECODE, "tbt", HISTORY.known, 0.03) == Promise(0.03, stated=True)


def test_the_target_is_a_busy_load_that_kept_the_promise() -> None:
    free = learn(DECODE, HISTORY.known, {"tbt": Promise(None, stated=False)}, None)
    strict = learn(DECODE, HISTORY.known, {"tbt": Promise(0.025, stated=True)}, None)
    assert free.highest == strict.highest == pytest.approx(np.nanmax(DECODE.load))
    assert strict.target < free.target <= free.highest
    # 0.015 + 0.02 × load ÷ 1100 = 0.025 at 550 tokens/s.
    assert 450 < strict.target <= 550


def test_latency_is_read_off_a_curve_that_never_falls_and_ends_where_nothing_was_seen() -> None:
    model = learn(DECODE, HISTORY.known, {"tbt": Promise(None, stated=False)}, None)
    loads = np.linspace(0, 2 * model.highest, 50)
    latencies = [model.latencies["tbt"].at(float(load)) for load in loads]
    assert latencies == sorted(latencies, key=lambda value: value or 0.0)
    assert latencies[-1] == pytest.approx(0.015 + 0.02 * model.highest / 1100, rel=0.05)


def test_a_stated_target_is_taken_at_its_word() -> None:
    model = learn(DECODE, HISTORY.known, {"tbt": Promise(None, stated=False)}, 5000.0)
    assert (model.target, model.highest, model.stated) == (5000.0, 5000.0, True)


def test_who_never_worked_teaches_nothing() -> None:
    idle = Day(lambda _t: 0.0).history(1800)
    with pytest.raises(ValueError, match="decode did no work"):
        learn(idle.roles[Role.DECODE], idle.known, {"tbt": Promise(None, stated=False)}, None)


def test_ratios_wanted_and_held() -> None:
    models = {role: learn(past, HISTORY.known, {}, None) for role, past in HISTORY.roles.items()}
    assert held_ratio(HISTORY)[5] == 0.5
    wanted = wanted_ratio(HISTORY, models)
    # Both roles' work is a fixed number of tokens a request, and both targets are seen at one rate.
    assert wanted[5] == pytest.approx(0.5, rel=0.02)
