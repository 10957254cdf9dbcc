"""The loop closed around a tiny plant: what the law does over minutes and hours."""

from __future__ import annotations

from itertools import pairwise

import pytest

from heteroscale_coordinator.core.model import Action
from tests.core.policy.build import D, P, spec_of
from tests.core.policy.plant import Plant

MOVES = (Action.SCALE_OUT, Action.SCALE_IN, Action.REINSTATE)


def plant(prefill: int, decode: int, rate: object, **changes: object) -> Plant:
    """Return a plant with these counts in service. A steady rate may be a number."""
    law = rate if callable(rate) else lambda _t: float(rate)  # type: ignore[arg-type]
    spec = changes.pop("spec", None) or spec_of()
    made = Plant(spec, law, **changes)  # type: ignore[arg-type]
    made.begin(prefill, decode)
    return made


@pytest.mark.parametrize("rate", [15.0, 18.0, 20.0, 21.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_noise_of_a_fifth_causes_no_oscillation_over_an_hour(rate: float, seed: int) -> None:
    loop = plant(2, 4, rate, noise=0.2, seed=seed)
    loop.run(3600)
    moves = loop.actions(*MOVES)
    assert len(moves) <= 1, [(at, v.action, v.reason) for at, v in moves]


def test_both_roles_follow_a_rise_and_a_fall() -> None:
    loop = plant(2, 4, lambda t: 15.0 if t < 300 else 40.0 if t < 1500 else 5.0, noise=0.05)
    loop.run(5000)
    most = {role: max(counts[role] for counts in loop.counts) for role in (P, D)}
    assert 8 <= most[D] <= 14
    assert 4 <= most[P] <= 7
    assert loop.counts[-1][D] <= 2
    assert loop.counts[-1][P] == 1
    assert loop.queue[P] == loop.queue[D] == 0


def test_a_rise_is_answered_within_a_window_and_never_cascades() -> None:
    """The load doubles at 300 s and is met, start-ups and backlog included, without doubling twice."""
    loop = plant(2, 4, lambda t: 18.0 if t < 300 else 36.0, noise=0.02)
    loop.run(1500)
    outs = loop.actions(Action.SCALE_OUT)
    assert 300 <= outs[0][0] <= 320
    assert max(counts[D] for counts in loop.counts) <= 12
    assert loop.queue[P] == loop.queue[D] == 0


def test_nothing_is_added_while_what_was_added_starts() -> None:
    loop = plant(2, 4, lambda t: 18.0 if t < 60 else 24.0, startup=170.0)
    loop.run(220)
    assert len(loop.actions(Action.SCALE_OUT)) == 1


def test_a_hump_inside_the_observation_takes_back_what_was_withdrawn() -> None:
    loop = plant(2, 4, lambda t: 8.0 if t < 200 else 19.0)
    loop.run(700)
    kinds = [verdict.action for _, verdict in loop.actions(*MOVES)]
    assert kinds[:2] == [Action.SCALE_IN, Action.REINSTATE]
    assert loop.memory.cooldown_in_factor == 1.0


def test_a_target_set_too_high_makes_scale_ins_rarer() -> None:
    """τ says 1000, an engine carries 500: every scale-in breaks latency and is taken back."""
    loop = plant(2, 4, 9.0, capacity={P: 6000.0, D: 500.0}, spec=spec_of(slo={"ttft": 1.0}))
    loop.run(4 * 3600)
    ins = [at for at, _ in loop.actions(Action.SCALE_IN)]
    gaps = [later - earlier for earlier, later in pairwise(ins)]
    assert all(gap >= 600 for gap in gaps)
    assert len(ins) <= 6


def test_a_breach_held_ten_minutes_gives_few_bounded_steps() -> None:
    loop = plant(4, 8, 34.0, ttft=2.0)
    loop.run(600)
    steps = loop.actions(Action.SCALE_OUT)
    assert 3 <= len(steps) <= 600 // 135 + 1
    assert all(verdict.delta[P] == 1 for _, verdict in steps)
    assert loop.counts[-1][P] <= 9


def test_a_breach_that_growth_does_not_mend_stops_at_twice_the_count() -> None:
    loop = plant(4, 8, 34.0, ttft=2.0)
    loop.run(7200)
    assert loop.counts[-1][P] <= 8 + 1


def test_a_choked_prefill_scales_out_and_recovers() -> None:
    """Prefill loses half of its speed: decode starves, a queue grows, nothing is withdrawn."""
    loop = plant(2, 4, 18.0, spec=spec_of(slo={}))
    loop.run(300)
    loop.capacity[P] = 3500.0
    loop.run(550)
    assert loop.counts[-1][P] >= 3
    assert not loop.actions(Action.SCALE_IN)
    assert loop.queue[P] == 0


def test_half_the_reports_missing_withdraws_nothing() -> None:
    loop = plant(4, 8, 4.0, deaf=0.75)
    loop.run(1800)
    assert not loop.actions(Action.SCALE_IN)


def test_an_idle_fleet_goes_to_its_minimum_and_stays() -> None:
    loop = plant(4, 8, 0.0)
    loop.run(6000)
    assert loop.counts[-1] == {P: 1, D: 1}
    assert all(v.action is Action.HOLD for _, v in loop.history[-100:])


def test_launches_that_never_get_ready_are_not_repeated_without_end() -> None:
    loop = plant(2, 4, 24.0, fails=True, spec=spec_of(slo={}))
    loop.run(1800)
    assert loop.counts[-1][D] <= 6


def test_a_load_that_flaps_faster_than_the_window_moves_nothing() -> None:
    def flapping(t: float) -> float:
        return 18.0 if t < 60 else 22.0 if int(t / 5) % 2 else 14.0

    loop = plant(2, 4, flapping, spec=spec_of(slo={}))
    loop.run(1800)
    assert not loop.actions(*MOVES)
