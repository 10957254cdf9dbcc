"""Rivals by their documented constants: what they do, when, and what they refuse to do."""

from __future__ import annotations

from math import nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_coordinator.core.spec import RatioSpec, RoleSpec, ServiceSpec
from heteroscale_simulator.measures.capacity import Offer
from heteroscale_simulator.measures.figures import Limits
from heteroscale_simulator.measures.oracle import Needs, free
from heteroscale_simulator.measures.schedule import Ladder
from heteroscale_simulator.policies.foresight import planned
from heteroscale_simulator.policies.grounds import Grounds
from heteroscale_simulator.policies.hpa import Hpa
from heteroscale_simulator.policies.hpa_pods import HpaGpu, from_pods
from heteroscale_simulator.policies.registry import KNOWN, RIVALS, rival, rivals
from heteroscale_simulator.profiles import load_profile
from tests.simulator.seen import D, P, Shown, turn

GPU = load_profile("demo").gpu("H20")
GROUNDS = Grounds({P: 1000.0, D: 100.0}, head_room=0.0)


def limits(prefill: list[int], decode: list[int], lead: float = 90.0) -> Limits:
    ladder = Ladder(((Offer("H20", 1, GPU, lead), None),))
    counts = {P: np.array(prefill), D: np.array(decode)}
    edges = np.linspace(0.0, 60.0 * len(prefill), len(prefill) + 1)
    return Limits.of(Needs(edges, counts, {P: ladder, D: ladder}, np.zeros(len(prefill))))


# ---- the registry ----------------------------------------------------------------------------


def test_every_known_name_makes_a_rival_that_bears_it() -> None:
    grounds = Grounds({P: 1.0, D: 1.0}, limits([1], [1]))
    made = rivals(KNOWN, grounds)
    assert [one.name for one in made] == list(RIVALS)
    for one in made:
        assert one.interval > 0
        assert min(one.decide(Shown()).values()) >= 1


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"called 'hpaa'; there are hpa, .*oracle-free"):
        rival("hpaa", GROUNDS)


def test_who_needs_foresight_says_so() -> None:
    with pytest.raises(ValueError, match="needs the load's limits"):
        rival("static-peak", GROUNDS)


# ---- the HPA on tokens -----------------------------------------------------------------------


def hpa(decode: float, count: int = 10, grounds: Grounds = GROUNDS) -> tuple[Hpa, Shown]:
    return Hpa(grounds), Shown(wanted={P: 2, D: count}, tokens={P: 2000.0, D: decode})


@pytest.mark.parametrize(
    ("tokens", "count"),
    [(1000.0, 10), (1100.0, 10), (nextafter(1100.1, 2000), 12), (1500.0, 15), (1101.0, 12)],
)
def test_the_hpa_goes_up_to_what_is_needed_outside_its_tolerance(tokens: float, count: int) -> None:
    scaler, seen = hpa(tokens)
    assert turn(scaler, seen) == {P: 2, D: count}
    assert seen.now == 15


def test_the_hpa_rises_by_four_or_to_twice() -> None:
    scaler, seen = hpa(10_000.0, count=1)
    assert [turn(scaler, seen)[D] for _ in range(6)] == [5, 10, 20, 40, 80, 100]


def test_a_fresh_hpa_does_not_shrink_for_300_seconds() -> None:
    scaler, seen = hpa(200.0)
    counts = [turn(scaler, seen)[D] for _ in range(21)]
    assert counts == [10] * 20 + [2]  # at 0, 15, … 285 s; then at 300 s


def test_the_hpa_shrinks_to_the_highest_recommendation_of_300_seconds() -> None:
    scaler, seen = hpa(1000.0)
    for _ in range(21):
        turn(scaler, seen)
    seen.tokens = {P: 2000.0, D: 700.0}
    turn(scaler, seen)  # recommends 7, and 10 is remembered
    seen.tokens = {P: 2000.0, D: 300.0}
    counts = [turn(scaler, seen)[D] for _ in range(21)]
    assert counts == [10] * 18 + [7, 3, 3]


def test_nine_tenths_of_the_target_is_inside_the_tolerance() -> None:
    scaler, seen = hpa(900.0)
    assert [turn(scaler, seen)[D] for _ in range(40)] == [10] * 40


def test_an_hpa_without_its_metric_changes_nothing() -> None:
    scaler, seen = hpa(1500.0)
    seen.tokens = {P: None, D: None}
    assert [turn(scaler, seen) for _ in range(40)] == [{P: 2, D: 10}] * 40


def test_the_hpa_keeps_one_of_each_without_traffic() -> None:
    scaler, seen = hpa(0.0)
    seen.tokens = {P: 0.0, D: 0.0}
    for _ in range(21):
        turn(scaler, seen)
    assert seen.wanted == {P: 1, D: 1}


def test_head_room_is_taken_off_the_target() -> None:
    scaler, seen = hpa(1000.0, grounds=Grounds({P: 1000.0, D: 100.0}))
    assert turn(scaler, seen)[D] == 15  # ⌈1000 ÷ 70⌉
    assert seen.windows == [60.0, 60.0]


def test_pending_pods_count_so_that_nothing_cascades() -> None:
    scaler, seen = hpa(2000.0)
    turn(scaler, seen)
    seen.starting = {D: 10}
    assert [turn(scaler, seen)[D] for _ in range(5)] == [20] * 5


# ---- the HPA on pods -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "pods", "count"),
    [
        ([0.8, 0.8], 2, 2),
        ([1.0, 1.0], 2, 3),  # ⌈1.25 · 2⌉
        ([0.4, 0.4], 2, 1),
        ([1.0, 1.0], 4, 4),  # the missing are idle: 0.5 of what is wanted would turn it round
        ([0.1, 0.1, 0.1], 4, 2),  # the missing one is at its target: ⌈1.1 ÷ 0.8⌉
        ([0.4], 4, 4),  # three missing: 2.8 of 3.2, and 0.875 is ⌈3.5⌉
        ([0.75], 4, 4),
        ([], 4, 4),
    ],
)
def test_missing_pods_dampen_and_never_turn(values: list[float], pods: int, count: int) -> None:
    known = {str(n): value for n, value in enumerate(values)}
    assert from_pods(known, pods, pods, 0.8) == count


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_a_missing_metric_never_moves_further_than_a_known_one(
    values: list[float], missing: int
) -> None:
    known = {str(n): value for n, value in enumerate(values)}
    pods = len(values) + missing
    mean = sum(values) / len(values)
    filled = known | {f"missing {n}": mean for n in range(missing)}
    full = from_pods(filled, pods, pods, 0.8)
    some = from_pods(known, pods, pods, 0.8)
    assert abs(some - pods) <= abs(full - pods)
    assert (some - pods) * (full - pods) >= 0


def test_decode_utilisation_that_is_always_high_keeps_its_count() -> None:
    scaler = HpaGpu(GROUNDS)
    busy = dict.fromkeys("abc", 0.95)
    seen = Shown(wanted={P: 2, D: 3}, gauges={("gpu_util", D): busy, ("gpu_util", P): {"p": 0.8}})
    assert turn(scaler, seen)[D] == 4  # ⌈0.95 ÷ 0.8 · 3⌉, whatever the load


# ---- foresight -------------------------------------------------------------------------------


def test_the_static_peak_never_moves() -> None:
    peak = rival("static-peak", Grounds({}, limits([1, 3, 1], [2, 5, 2])))
    seen = Shown()
    assert {tuple(turn(peak, seen).items()) for _ in range(400)} == {((P, 3), (D, 5))}


def test_a_replay_launches_its_lead_ahead_and_lets_go_in_time() -> None:
    made = limits([1, 1, 1, 2, 1], [1] * 5, lead=90)
    replay = rival("oracle-free", Grounds({}, made))
    seen = Shown()
    counts = [turn(replay, seen)[P] for _ in range(300)]
    assert counts == [1] * 90 + [2] * 150 + [1] * 60
    assert sum(counts) / 3600 == pytest.approx(
        sum(one.gpu_hours for one in made.free.held if one.role is Role.PREFILL)
    )
    seen.now = 1e6
    assert turn(replay, seen) == {P: 1, D: 1}


def test_a_plan_takes_its_own_gpu_types_in_its_order() -> None:
    ladder = Ladder(((Offer("H100", 1, GPU), 1), (Offer("H20", 1, GPU), None)))
    one = Ladder(((Offer("L20", 1, GPU), None),))
    counts = {P: np.array([1, 1]), D: np.array([1, 2])}
    made = free(Needs(np.array([0.0, 60.0, 120.0]), counts, {P: one, D: ladder}, np.zeros(2)))
    role = RoleSpec(template="chat", gpu_types=("H20", "L20"), min=1, max=9)
    spec = ServiceSpec(roles={P: role, D: role}, ratio=RatioSpec(min=0.1, max=9))
    plan = planned(spec, made)
    assert plan.roles[P].gpu_types == ("L20",)
    assert plan.roles[D].gpu_types == ("H100", "H20")
    assert plan.roles[D].max == 9
    assert spec.roles[D].gpu_types == ("H20", "L20")


def test_the_fixed_oracle_keeps_its_ratio() -> None:
    made = limits([2, 4, 2], [1, 2, 1], lead=60)
    replay = rival("oracle-fixed", Grounds({}, made))
    seen = Shown()
    counts = [turn(replay, seen) for _ in range(180)]
    assert made.fixed.ratio == pytest.approx(2)
    assert all(count[P] == 2 * count[D] for count in counts)
