"""The predictive floor: what is kept of the past, what is foreseen of it, and that it only raises."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from heteroscale_coordinator.core import resume, sums
from heteroscale_coordinator.core.memory import PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.memory.forecast import ForecastMemory, History, Outlook, Slots
from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.core.policy import ServiceView, decide, laws
from heteroscale_coordinator.core.policy.backtest import ENOUGH, MODELS, Horizon, outlook, retired
from heteroscale_coordinator.core.policy.history import KEPT, SLOT, recorded
from heteroscale_coordinator.core.policy.remember import remember
from heteroscale_coordinator.core.policy.scene import look
from heteroscale_coordinator.core.policy.season import LEARNED, learned, leaving
from tests.core.policy.build import (
    NOW,
    A,
    D,
    P,
    aggregated_spec,
    decoding,
    many,
    member,
    prefilling,
    spec_of,
    view_of,
    withdrawn,
)
from tests.core.policy.test_claims import quick, views

AHEAD = Horizon("out", 4, 0.9)
rates = st.floats(0, 1e6)
slots = st.lists(st.one_of(st.none(), rates), max_size=KEPT).map(tuple)
outlooks = st.builds(
    Outlook,
    ahead=st.integers(1, 20),
    model=st.sampled_from(["last", "level", "trend"]),
    value=st.floats(0, 20_000),
    now=st.floats(0, 20_000),
    least=st.floats(0, 1_000),
    shortfall=st.floats(0, 5),
    error=st.floats(0, 2),
    error_last=st.floats(0, 2),
)
histories = st.builds(History, means=slots, peaks=slots, out=outlooks, stay=outlooks)


def foreseen(*means: float | None) -> Outlook:
    """Return the outlook of demand that is steady inside each slot."""
    found = outlook(History(means, means), 0, AHEAD, MODELS)
    assert found is not None
    return found


def with_past(
    view: ServiceView, role: Any, out: Outlook | None, stay: Outlook | None
) -> ServiceView:
    """Return the view of a service that foresees this, in the middle of a slot."""
    history = History((1.0,), (1.0,), out=out, stay=stay)
    roles = {role: history}
    known = remember(look(view)).forecast.slot
    return replace(view, memory=replace(view.memory, forecast=ForecastMemory(known, roles)))


def expecting(value: float, *, shortfall: float = 0.0, now: float | None = None) -> Outlook:
    return Outlook(4, "trend", value, value if now is None else now, 1.0, shortfall, 0.05, 0.1)


# ---- what is foreseen of a series ----------------------------------------------------------------


def test_a_ramp_is_foreseen_by_its_trend() -> None:
    found = foreseen(*(1000.0 + 20 * i for i in range(60)))
    assert found.model == "trend"
    assert found.error < 0.5 * found.error_last
    assert found.value == pytest.approx(1000 + 20 * 63, rel=0.01)


def test_chance_is_averaged_out_and_covered_by_the_band() -> None:
    chance = random.Random(1)  # noqa: S311 - a repeatable series, no secret
    series = [chance.uniform(800, 1200) for _ in range(KEPT)]
    found = foreseen(*series)
    assert found.model == "level"
    assert found.error < 0.8 * found.error_last
    covered = found.value * (1 + found.shortfall)
    highest = [max(series[i : i + AHEAD.slots]) for i in range(KEPT)]
    assert 0.8 < sum(value <= covered for value in highest) / KEPT < 1.0


def test_no_model_is_used_that_does_not_beat_the_last_value() -> None:
    """Long plateaus: whatever has gone on so far goes on, until it is over."""
    found = foreseen(*(1000.0 * (1 + i // 30 % 2) for i in range(KEPT)))
    assert found.model == "last"
    assert found.value == 2000.0
    assert found.error == found.error_last


def test_a_quiet_service_has_no_band() -> None:
    found = foreseen(*[4000.0] * 60)
    assert (found.model, found.value, found.shortfall, found.error) == ("last", 4000.0, 0.0, 0.0)


def test_demand_that_is_nothing_foresees_nothing() -> None:
    found = foreseen(*[0.0] * 60)
    assert (found.value, found.shortfall) == (0.0, 0.0)


@quick
@given(holes=st.lists(st.booleans(), min_size=KEPT, max_size=KEPT), rate=st.floats(1, 1e6))
def test_a_hole_is_never_a_zero(holes: list[bool], rate: float) -> None:
    means = (*(None if hole else rate for hole in holes), rate)
    found = outlook(History(means, means), 0, AHEAD, MODELS)
    if found is not None:
        assert found.value == pytest.approx(rate)
        assert found.shortfall == pytest.approx(0, abs=1e-9)
        assert found.error == pytest.approx(0, abs=1e-9)


@quick
@given(means=slots)
def test_what_is_foreseen_is_a_number_and_no_worse_than_the_last_value(means: Slots) -> None:
    found = outlook(History(means, means), 0, AHEAD, MODELS)
    if found is None:
        known = sum(value is not None for value in means)
        assert not means or means[-1] is None or known < 2 * ENOUGH + 4 + KEPT // 2
        return
    figures = (found.value, found.now, found.least, found.shortfall, found.error)
    assert all(math.isfinite(figure) and figure >= 0 for figure in figures)
    assert found.error <= found.error_last


@quick
@given(value=rates, known=st.integers(0, ENOUGH + AHEAD.slots - 1))
def test_too_little_past_foresees_nothing(value: float, known: int) -> None:
    means = (value,) * known
    assert outlook(History(means, means), 0, AHEAD, MODELS) is None


# ---- courses that come again ---------------------------------------------------------------------

SEASONAL = (*MODELS, "day", "week")
LATER = Horizon("stay", 9, 0.5)
DAY = 1440


def lived(days: float, rate: Callable[[int], float]) -> History:
    """Return the history of a service that was watched for days; slot 0 is the first of a day."""
    history = History()
    for slot in range(int(days * DAY)):
        value = float(f"{rate(slot):.4g}")
        history = replace(history, means=(*history.means, value), peaks=(*history.peaks, value))
        while count := leaving(history, slot, KEPT):
            held = retired(history, slot, count, (LATER,), SEASONAL)
            history = learned(replace(history, held=held), slot, count)
    return history


def busy_from(begins: Callable[[int], int]) -> Callable[[int], float]:
    """Return demand with some chance that triples in a quarter of an hour of each day."""
    chance = random.Random(5)  # noqa: S311 - a repeatable series, no secret

    def rate(slot: int) -> float:
        since = slot % DAY - begins(slot // DAY)
        high = min(1.0, max(0.0, since / 15)) if since < 600 else 0.0
        return 1000 * (1 + 2 * high) * chance.uniform(0.95, 1.05)

    return rate


def test_a_rise_of_every_morning_is_foreseen_before_it_begins() -> None:
    morning = 480
    history = lived(3 + (morning - 2) / DAY, busy_from(lambda _: morning))
    found = outlook(history, 3 * DAY + morning - 3, LATER, SEASONAL)
    assert found is not None
    assert found.model == "day"
    assert found.value > 1.3 * found.now
    assert found.error < 0.8 * found.error_last
    blind = outlook(history, 3 * DAY + morning - 3, LATER, MODELS)
    assert blind is not None
    assert blind.value < 1.1 * blind.now


def test_a_season_that_misleads_is_not_used() -> None:
    """Every day rises at another hour: what yesterday did says nothing of today."""
    hours = (120, 700, 300, 840)
    history = lived(3.2, busy_from(lambda day: hours[day]))
    found = outlook(history, int(3.2 * DAY) - 1, LATER, SEASONAL)
    assert found is not None
    assert found.model not in ("day", "week")
    assert found.error <= found.error_last


def test_a_season_is_learned_only_from_what_the_backtest_no_longer_sees() -> None:
    history = lived(0.5, lambda slot: 1000.0 + slot)
    assert KEPT <= len(history.means) < KEPT + LEARNED
    known = [value for value in history.seasons["day"] if value is not None]
    oldest = history.means[0]
    assert oldest is not None
    assert max(known) < oldest
    assert len(known) * LEARNED == DAY / 2 - len(history.means)


def test_days_leave_a_memory_of_some_kilobytes() -> None:
    history = lived(1.5, lambda slot: 123_456.0 + slot)
    assert len(TypeAdapter(History).dump_json(history)) < 6_000


# ---- what is kept --------------------------------------------------------------------------------


def watched(seconds: float, memory: ForecastMemory, rate: float = 800.0, **changes: Any) -> Any:
    view = view_of(spec_of(), *many(2, P, prefilling(4000)), *many(4, D, decoding(rate)))
    view = replace(view, memory=replace(view.memory, forecast=memory), **changes)
    return recorded(replace(look(view), view=replace(view, now=NOW + seconds)), heard=True)


def test_a_slot_is_written_once_when_it_is_over() -> None:
    first = watched(0, ForecastMemory())
    assert list(first.roles[D].means) == [pytest.approx(3200, rel=0.01)]
    later = [watched(seconds, first) for seconds in range(0, int(SLOT) + 5, 5)]
    over = [memory is not first for memory in later]
    assert over == sorted(over)
    assert (over[0], over[-1]) == (False, True)
    assert {len(memory.roles[D].means) for memory in later} == {1, 2}


def test_time_that_nobody_watched_is_a_hole() -> None:
    first = watched(0, ForecastMemory())
    later = watched(5 * SLOT, first)
    assert later.roles[D].means[1:-1] == (None,) * 4
    assert later.roles[D].means[-1] is not None


def test_a_clock_set_back_goes_on() -> None:
    first = watched(0, ForecastMemory())
    back = watched(-3600, first)
    assert len(back.roles[D].means) == 2
    assert len(watched(-3600 + SLOT, back).roles[D].means) == 3


def test_a_restart_keeps_the_past() -> None:
    memory = PolicyMemory(forecast=watched(0, ForecastMemory()))
    assert resume.moved_on(memory, 3600.0).forecast == memory.forecast


@pytest.mark.parametrize("changes", [{"partition": True}, {"launch_only": True, "covered": False}])
def test_what_was_not_heard_is_a_hole(changes: dict[str, Any]) -> None:
    silent = many(4, D, decoding(800), silent_for=60)
    known = many(6, D, decoding(800))
    group = known if "partition" in changes else (*silent, *known)
    view = view_of(spec_of(), *many(2, P, prefilling(4000)), *group, **changes)
    assert decide(view).memory.forecast.roles[D].means == (None,)


def test_both_roles_are_kept_only_where_prefill_leads() -> None:
    group = (*many(2, P, prefilling(4000)), *many(4, D, decoding(800)))
    fixed = decide(view_of(spec_of(), *group)).memory.forecast
    banded = decide(view_of(spec_of(ratio={"min": 0.2, "max": 2.0}), *group)).memory.forecast
    alone = decide(view_of(aggregated_spec(), *many(4, A, decoding(800)))).memory.forecast
    assert (set(fixed.roles), set(banded.roles), set(alone.roles)) == ({D}, {P, D}, {A})
    assert list(banded.roles[P].means) == [pytest.approx(8000, rel=0.01)]


def test_memory_stays_small_and_survives_json() -> None:
    memory = ForecastMemory()
    for slot in range(3 * KEPT):
        memory = watched(slot * SLOT, memory, rate=777.77 + slot)
    kept = PolicyMemory(forecast=memory)
    stored = TypeAdapter(PolicyMemory).dump_json(kept)
    assert len(stored) < 12_000
    assert TypeAdapter(PolicyMemory).validate_json(stored) == kept
    assert memory.roles[D].out is not None


# ---- what the law asks for -----------------------------------------------------------------------


def calm(n: int, rate: float, *, computed: float = 4000, **forecast: Any) -> ServiceView:
    spec = spec_of(forecast={"enabled": True, **forecast})
    return view_of(spec, *many(n // 2, P, prefilling(computed)), *many(n, D, decoding(rate)))


def test_what_is_expected_is_launched_before_it_comes() -> None:
    found = decide(with_past(calm(4, 1000), D, expecting(4500, shortfall=0.2), None))
    assert (found.action, found.bound_by) == (Action.SCALE_OUT, "forecast")
    assert found.delta == {P: 1, D: 2}
    assert found.sums["decode_forecast"].value == pytest.approx(5400)
    assert sums.replay(found.sums["forecast_needed_decode"]) == 6
    assert "4500 → 4500 (up to 5400) tok/s on decode in 240 s by trend" in found.reason
    told = {value.name: value.value for value in found.signals}
    assert told["decode_forecast"] == pytest.approx(5400)
    assert (told["decode_forecast_error"], told["decode_forecast_error_last"]) == (0.05, 0.1)


def test_what_the_supply_carries_asks_for_nothing() -> None:
    found = decide(with_past(calm(4, 1000), D, expecting(4300), None))
    assert found.action is Action.HOLD
    assert found.inputs["forecast"].endswith("off by 5.0%, the last value by 10.0%")


def test_the_raise_has_a_limit() -> None:
    view = with_past(calm(4, 1000, max_raise=0.25), D, expecting(9000, now=4000), None)
    assert decide(view).sums["decode_forecast"].value == 5000


def test_band_and_law_are_switched_off_apart() -> None:
    past = expecting(4300, shortfall=0.2)
    bandless = decide(with_past(calm(4, 1000, band=False), D, past, None))
    assert bandless.action is Action.HOLD
    off = decide(with_past(calm(4, 1000, enabled=False), D, past, past))
    assert off.inputs["forecast"] == "switched off for decode"
    assert "decode_forecast" not in off.sums


def test_a_withdrawal_leaves_what_is_expected() -> None:
    low = with_past(calm(8, 300, computed=1500), D, None, expecting(5600))
    kept = decide(low)
    assert kept.action is Action.SCALE_IN
    assert kept.delta[D] == 1
    free = decide(with_past(calm(8, 300, computed=1500), D, None, None))
    assert free.delta[D] == 2
    assert "6 decode for" in kept.inputs["floor_forecast"]


def test_too_little_past_says_how_long_until() -> None:
    found = decide(calm(4, 1000))
    missing = ENOUGH + 4
    assert found.inputs["forecast"] == f"none for decode: {missing - 1} min of history are missing"


def test_what_is_taken_back_because_it_is_expected_was_no_wrong_scale_in() -> None:
    """Nothing broke: the next cooldown is not lengthened."""
    soft = SoftScaleIn("dec-1", NOW - 60, NOW + 240, 4000, 4000)
    group = (*many(2, P, prefilling(4000)), *many(4, D, decoding(1000)), withdrawn(D))
    view = view_of(
        spec_of(forecast={"enabled": True}, prefill=(2, 2)),
        *group,
        memory=PolicyMemory(wanted={P: 2, D: 4}, soft=soft),
    )
    found = decide(with_past(view, D, expecting(4800), None))
    assert (found.action, found.bound_by) == (Action.REINSTATE, "demand")
    assert "expected is" in found.reason.lower()
    assert found.done.cooldown_in_factor == 1.0


@quick
@given(view=views(), history=histories, role=st.sampled_from([P, D]))
def test_the_forecast_only_raises(view: ServiceView, history: History, role: Any) -> None:
    known = remember(look(view)).forecast.slot
    past = ForecastMemory(known, {role: history})
    view = replace(view, memory=replace(view.memory, forecast=past))
    asked, kept = [], []
    for enabled in (False, True):
        forecast = view.spec.policy.forecast.model_copy(update={"enabled": enabled})
        policy = view.spec.policy.model_copy(update={"forecast": forecast})
        scene = look(replace(view, spec=view.spec.model_copy(update={"policy": policy})))
        need = laws.need_of(scene)
        asked.append(need.counts if need else scene.present)
        kept.append(laws.floors_of(scene))
    assert all(asked[1][name] >= n for name, n in asked[0].items())
    assert all(kept[1][name] >= n for name, n in kept[0].items())
    present = view.present()
    assert all(n <= present[name] for name, n in kept[1].items())


@quick
@given(view=views(), history=histories)
def test_equal_pasts_give_equal_verdicts(view: ServiceView, history: History) -> None:
    past = ForecastMemory(remember(look(view)).forecast.slot, {D: history})
    stored = TypeAdapter(ForecastMemory).dump_json(past)
    again = TypeAdapter(ForecastMemory).validate_json(stored)
    one, other = (
        decide(replace(view, memory=replace(view.memory, forecast=memory)))
        for memory in (past, again)
    )
    assert one == other


def test_an_engine_that_is_not_heard_leaves_no_lower_demand() -> None:
    one = member(D, decoding(800), silent_for=60)
    view = view_of(spec_of(), *many(2, P, prefilling(4000)), *many(19, D, decoding(800)), one)
    found = decide(view).memory.forecast.roles[D].means
    assert list(found) == [pytest.approx(16_000, rel=0.01)]
