"""KEDA, Knative, AIBrix and Dynamo by their documented constants."""

from __future__ import annotations

import pytest

from heteroscale_simulator.policies.aibrix import Aibrix, recommendation
from heteroscale_simulator.policies.dynamo import DynamoSla
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.keda import Keda
from heteroscale_simulator.policies.knative import Knative, PodAutoscaler
from tests.simulator.seen import D, P, Shown, turn

GROUNDS = Grounds({P: 1000.0, D: 100.0}, head_room=0.0)


def shown(decode: float | None, count: int = 10) -> Shown:
    return Shown(wanted={P: 2, D: count}, tokens={P: 2000.0, D: decode})


# ---- KEDA ------------------------------------------------------------------------------------


def test_keda_reads_its_metric_every_30_seconds() -> None:
    scaler, seen = Keda(GROUNDS), shown(1000.0)
    assert turn(scaler, seen)[D] == 10
    seen.tokens = {P: 2000.0, D: 1500.0}
    assert turn(scaler, seen)[D] == 10  # at 15 s it still has the value of second 0
    assert turn(scaler, seen)[D] == 15
    assert seen.windows == [60.0] * 4  # each role at 0 and 30 s


# ---- Knative ---------------------------------------------------------------------------------


def held(
    scaler: PodAutoscaler, seconds: int, ready: int, inside: float, since: int = 0
) -> list[int]:
    got = [scaler.desired(float(at), ready, inside) for at in range(since, since + seconds, 2)]
    assert None not in got
    return [count for count in got if count is not None]


def test_knative_fills_seventy_of_a_hundred() -> None:
    assert held(PodAutoscaler(), 60, 3, 210.0) == [3] * 30
    assert held(PodAutoscaler(), 60, 3, 211.0) == [4] * 30


def test_knative_halves_at_most() -> None:
    assert held(PodAutoscaler(), 2, 9, 0.0) == [4]
    assert held(PodAutoscaler(), 2, 1, 0.0) == [1]


def test_knative_panics_at_twice_the_ready_and_does_not_go_down_for_60_seconds() -> None:
    scaler = PodAutoscaler()
    held(scaler, 60, 2, 140.0)
    alarmed = held(scaler, 6, 2, 700.0, since=60)
    assert alarmed[-1] == 10  # six seconds want ten: five times the ready
    after = held(scaler, 70, 10, 0.0, since=66)
    # The last alarm may be a few seconds in; from then on 60 s at the highest, then half at most.
    assert after[:30] == [10] * 30
    assert after[-1] == 5


def test_knative_answers_a_slow_rise_with_the_stable_window() -> None:
    scaler = PodAutoscaler()
    held(scaler, 60, 2, 140.0)
    assert held(scaler, 6, 2, 200.0, since=60) == [3, 3, 3]  # below twice: no panic, mean over 60 s


def test_knative_without_values_changes_nothing() -> None:
    seen = shown(None)
    assert turn(Knative(GROUNDS), seen) == {P: 2, D: 10}


def test_knative_lets_the_heard_stand_for_all() -> None:
    seen = shown(None, count=4)
    seen.gauges = {("running", D): {"a": 60.0, "b": 70.0}, ("waiting", D): {"a": 10.0}}
    assert turn(Knative(GROUNDS), seen) == {P: 2, D: 4}  # 70 a pod
    seen.gauges = {("running", D): {"a": 75.0}, ("waiting", D): {}}
    assert Knative(GROUNDS).decide(seen)[D] == 5


# ---- AIBrix ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "ratio", "count"),
    [
        (10, 1.1, 10),
        (10, 1.11, 12),
        (10, 5.0, 20),
        (10, 0.9, 10),
        (10, 0.8, 8),
        (10, 0.1, 5),
        (1, 0, 1),
    ],
)
def test_aibrix_has_a_band_and_factors(current: int, ratio: float, count: int) -> None:
    assert recommendation(current, ratio) == count


def test_aibrix_cascades_while_pods_start() -> None:
    scaler, seen = Aibrix(GROUNDS, "aibrix", min), shown(1500.0)
    counts = []
    for _ in range(4):
        counts.append(turn(scaler, seen)[D])
        seen.starting = {D: seen.wanted[D] - 10}  # nobody gets ready
    assert counts == [15, 23, 35, 53]
    assert seen.windows[0] == 180.0


def test_aibrix_takes_the_lowest_of_its_window_and_its_variant_the_highest() -> None:
    counts = {}
    for name, choose in (("aibrix", min), ("aibrix-window", max)):
        scaler, seen = Aibrix(GROUNDS, name, choose), shown(1000.0)
        for _ in range(5):
            turn(scaler, seen)
        seen.tokens = {P: 2000.0, D: 800.0}
        counts[name] = [turn(scaler, seen)[D] for _ in range(32)]
    assert counts["aibrix"][0] == 8
    assert counts["aibrix-window"] == [10] * 29 + [8] * 3


# ---- Dynamo ----------------------------------------------------------------------------------


def test_dynamo_sizes_to_the_last_interval_at_full_capacity() -> None:
    scaler, seen = DynamoSla(GROUNDS), shown(1001.0)
    assert turn(scaler, seen) == {P: 2, D: 11}
    assert (seen.now, seen.windows) == (180.0, [180.0, 180.0])
    seen.tokens = {P: 0.0, D: 300.0}
    assert turn(scaler, seen) == {P: 1, D: 3}  # no hysteresis


def test_dynamo_keeps_what_it_does_not_know() -> None:
    seen = shown(None)
    seen.tokens = {P: None, D: 500.0}
    assert turn(DynamoSla(GROUNDS), seen) == {P: 2, D: 5}


def test_dynamo_takes_no_head_room() -> None:
    seen = shown(1000.0)
    assert turn(DynamoSla(Grounds({P: 1000.0, D: 100.0})), seen)[D] == 10
