"""Signals: unknown is never zero, idle is known, and each role is read by its own work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heteroscale.words import InstanceState, ScrapeQuality
from heteroscale_coordinator.core.model import EngineSample
from heteroscale_coordinator.core.policy import Member, ServiceView, observe_signals
from heteroscale_coordinator.core.policy.windows import engine_of
from heteroscale_coordinator.core.track import SLOTS, Track, spacing_of
from tests.core.policy.build import (
    IDLE,
    NOW,
    D,
    Flow,
    P,
    decoding,
    instance_of,
    many,
    member,
    prefilling,
    spec_of,
    track_of,
    view_of,
    withdrawn,
)

SPEC = spec_of()


def told(view: ServiceView, name: str) -> tuple[Any, str]:
    found = next(value for value in observe_signals(view).values if value.name == name)
    return found.value, found.quality


def test_rates_come_from_counters() -> None:
    view = view_of(SPEC, *many(2, D, decoding(800)), *many(1, P, prefilling(3000)))
    assert told(view, "decode_tps") == (pytest.approx(1600), "ok")
    assert told(view, "prefill_tps") == (pytest.approx(3000), "ok")
    assert told(view, "decode_arrival_rate") == (pytest.approx(8), "ok")
    assert told(view, "prefill_ttft") == (pytest.approx(0.1), "ok")
    assert told(view, "decode_tbt") == (pytest.approx(0.02), "ok")


def test_what_was_never_heard_is_missing_not_zero() -> None:
    view = view_of(SPEC, *many(2, D), *many(1, P))
    assert told(view, "decode_tps") == (None, "missing")
    assert told(view, "decode_waiting") == (None, "missing")


def test_what_is_old_is_stale() -> None:
    view = view_of(SPEC, *many(2, D, decoding(800), silent_for=40), *many(1, P, prefilling(1000)))
    assert told(view, "decode_tps") == (None, "stale")


def test_some_unheard_is_partial_and_scaled_to_all() -> None:
    view = view_of(SPEC, *many(3, D, decoding(800)), *many(1, D), *many(1, P, prefilling(1000)))
    value, quality = told(view, "decode_tps")
    assert (value, quality) == (pytest.approx(3200), "partial")
    assert observe_signals(view).roles[D].coverage == 0.75


def test_idle_is_known() -> None:
    view = view_of(SPEC, *many(2, D, IDLE), *many(1, P, IDLE))
    assert told(view, "decode_tps") == (0.0, "idle")


def test_an_engine_that_has_not_told_its_counters_yet_is_idle_when_it_holds_nothing() -> None:
    young = replace(IDLE, tokens=None, prompt=None, requests=None, ttft=None, tbt=None)
    view = view_of(SPEC, *many(2, D, young), *many(1, P, young))
    assert told(view, "decode_tps") == (0.0, "idle")
    busy = replace(young, running=3.0)
    assert told(view_of(SPEC, *many(2, D, busy), *many(1, P, young)), "decode_tps")[0] is None


def test_an_engine_that_was_busy_and_tells_no_tokens_is_unknown() -> None:
    mute = replace(IDLE, tokens=None, prompt=None)
    flow = member(D, replace(mute, running=3.0), mute, each=5)
    assert told(view_of(SPEC, flow, member(P, IDLE)), "decode_tps")[0] is None


def test_one_idle_engine_among_the_unheard_makes_no_idle_role() -> None:
    view = view_of(SPEC, member(D, IDLE), member(D), *many(1, P, IDLE))
    assert observe_signals(view).roles[D].quality == "partial"


def test_a_single_sample_is_no_rate() -> None:
    view = view_of(SPEC, member(D, decoding(900), heard_for=0), *many(1, P, IDLE))
    assert told(view, "decode_tps")[0] is None


def test_the_one_token_a_prefill_engine_generates_does_not_count() -> None:
    prefill = prefilling(3000, tokens=500.0)
    view = view_of(SPEC, *many(1, D, decoding(800)), *many(2, P, prefill))
    assert told(view, "decode_tps")[0] == pytest.approx(800)
    assert told(view, "prefill_tps")[0] == pytest.approx(6000)


def test_without_cache_misses_told_apart_all_prompt_tokens_count() -> None:
    plain = replace(prefilling(2000), computed=None)
    assert told(view_of(SPEC, member(D, IDLE), member(P, plain)), "prefill_tps")[
        0
    ] == pytest.approx(2000)
    cached = replace(prefilling(2000), prompt=9000.0)
    assert told(view_of(SPEC, member(D, IDLE), member(P, cached)), "prefill_tps")[
        0
    ] == pytest.approx(2000)


def test_withdrawn_and_draining_engines_still_serve_what_they_have() -> None:
    draining = member(D, decoding(200), state=InstanceState.DRAINING)
    view = view_of(
        SPEC, member(D, decoding(800)), withdrawn(D), draining, *many(1, P, prefilling(1000))
    )
    assert told(view, "decode_tps")[0] == pytest.approx(1000)
    assert observe_signals(view).roles[D].carrying == 1


def test_a_counter_that_fell_cuts_off_what_came_before() -> None:
    track = track_of(decoding(1000), heard_for=60)
    sample = EngineSample("", ScrapeQuality.OK, NOW + 5, generation_tokens=10.0, running=1.0)
    track.add(sample)
    assert [point.at for point in track] == [NOW + 5]
    engine = engine_of(Member(instance_of(D), track), SPEC, NOW + 5)
    assert engine.rate("generation_tokens", 15) is None


def test_a_hole_in_the_long_window_is_not_covered() -> None:
    track = Track(5.0)
    for at in (*range(0, 65, 5), *range(100, 125, 5)):
        track.add(EngineSample("", ScrapeQuality.OK, NOW - 120 + at, running=1.0, waiting=0.0))
    engine = engine_of(Member(instance_of(D), track), SPEC, NOW)
    assert engine.reaches(15, 15)
    assert not engine.reaches(60, 15)


def test_fresh_samples_that_do_not_say_what_is_in_flight_cover_nothing() -> None:
    track = Track(5.0)
    for at in range(0, 125, 5):
        told = 0.0 if at < 80 else None
        sample = EngineSample("", ScrapeQuality.OK, NOW - 120 + at, running=told, waiting=told)
        track.add(sample)
    engine = engine_of(Member(instance_of(D), track), SPEC, NOW)
    assert engine.fresh
    assert not engine.reaches(60, 15)
    assert engine_of(Member(instance_of(D), track), SPEC, NOW).reaches(60, 50)


def test_a_window_longer_than_a_track_is_covered_as_far_as_it_goes() -> None:
    spec = spec_of(window_in=600)
    engine = engine_of(member(D, decoding(900), heard_for=300), spec, NOW)
    assert engine.reaches(600, 15)
    assert not engine_of(member(D, decoding(900), heard_for=100), spec, NOW).reaches(600, 15)


@pytest.mark.parametrize("longest", [60.0, 6.0, 600.0])
def test_the_longest_window_fits_into_a_track(longest: float) -> None:
    assert spacing_of(longest) * (SLOTS - 2) >= longest


def test_a_flow_of_nothing_tells_nothing() -> None:
    dumb = Flow(tokens=None, requests=None, prompt=None, running=None, waiting=None)
    view = view_of(SPEC, member(D, dumb), member(P, dumb))
    assert {v.value for v in observe_signals(view).values if v.name.endswith("tps")} == {None}
