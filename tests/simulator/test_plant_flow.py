"""The plant that runs fleets: nothing is lost, more is never worse, overload looks like overload."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_simulator.plant import FlowPlant
from heteroscale_simulator.plant.port import PlantSettings, Slo, Wear, Workload
from tests.simulator.plants import inside, plant, profile, run, seat

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "open", "close", "remove", "load", "quiet"]),
        st.integers(0, 5),
        st.floats(0, 40),
    ),
    max_size=40,
)


@given(ACTS, st.floats(50, 6000), st.floats(1, 900))
@settings(max_examples=40, deadline=None)
def test_every_request_is_finished_failed_or_inside(
    acts: list[tuple[str, int, float]], prompt: float, output: float
) -> None:
    over = plant(1, 1)
    names = ["p0", "d0"]
    for act, number, rate in acts:
        name = names[number % len(names)] if names else ""
        if act == "join":
            role = Role.PREFILL if number % 2 else Role.DECODE
            name = f"{role.value[0]}x{len(names)}-{over._now}"
            if name not in names:
                names.append(name)
                over.join(seat(name, role, "AB"[number // 3]))
        elif act == "remove" and name:
            names.remove(name)
            over.remove(name)
        elif act == "open" and name:
            over.open(name)
        elif act == "close" and name:
            over.close(name)
        else:
            run(over, 3, rate if act == "load" else 0.0, prompt, output)
    said = over.outcomes()
    requests, tokens = inside(over)
    arrived = said.arrived.sum()
    assert arrived == pytest.approx(said.finished.sum() + said.failed.sum() + requests, abs=1e-6)
    for one in (said.finished, said.failed, said.met, said.ttft_met):
        assert (one >= -1e-9).all()
    # In all: a bucket's requests count for the second of their mean arrival.
    assert said.met.sum() <= said.tbt_met.sum() + 1e-6
    assert said.met.sum() <= said.ttft_met.sum() + 1e-6
    assert tokens >= -1e-6
    for name in names:
        over.close(name)
        assert over.held(name) >= 0


def test_all_that_can_be_served_is_served_to_its_last_token() -> None:
    over = run(plant(2, 2), 60, 7.3, output=83.4)
    run(over, 60, 0)
    said = over.outcomes()
    assert said.finished.sum() == pytest.approx(60 * 7.3)
    assert said.output_tokens.sum() == pytest.approx(60 * 7.3 * 83.4)
    assert said.first_tokens.sum() == pytest.approx(60 * 7.3)
    assert inside(over)[0] == pytest.approx(0, abs=1e-9)
    read = over.readings()
    assert read.requests_finished[:2].sum() == pytest.approx(60 * 7.3)
    assert read.generation_tokens[2:].sum() == pytest.approx(60 * 7.3 * 83.4)
    assert read.prompt_tokens[:2].sum() == pytest.approx(60 * 7.3 * 500)


def test_a_lone_request_takes_what_the_tables_say() -> None:
    over = plant(1, 1, PlantSettings(Slo(None, None)))
    run(over, 1, 0.01, prompt=1000, output=100)
    run(over, 10, 0)
    said = over.outcomes()
    # 100 ms of prefill, 1000 tokens of 100 kB at 1 GB/s and 5 ms, one step of 10.5 ms; hardly a wait.
    assert said.ttft_sum.sum() / 0.01 == pytest.approx(0.1 + 0.105 + 0.0105, abs=0.006)
    assert said.tbt_sum.sum() / 0.01 == pytest.approx(0.0105, abs=0.0005)
    assert said.met.sum() == pytest.approx(0.01)


def test_the_same_is_the_same() -> None:
    wear = PlantSettings(
        Slo(0.5, 0.03), wear=Wear(warm_up=5, warm_up_speed=0.5, jitter=0.1), seed=3
    )
    one, other = (run(plant(2, 3, wear), 50, 11.0).outcomes() for _ in range(2))
    assert np.array_equal(one.met, other.met)
    assert np.array_equal(one.ttft_sum, other.ttft_sum)


@pytest.mark.parametrize("rate", [3.0, 9.0, 15.0, 40.0])
def test_more_instances_are_never_worse(rate: float) -> None:
    met = [run(plant(p, p), 120, rate).outcomes().met.sum() for p in range(1, 6)]
    assert all(more >= less - 1e-6 for less, more in pairwise(met))
    assert met[-1] > 0


def test_a_choked_prefill_starves_decode() -> None:
    over = run(plant(1, 2), 120, 60.0)
    read, said = over.readings(), over.outcomes()
    waiting, finished = read.waiting[0], read.requests_finished[0]
    assert waiting > 1000
    assert read.gpu_util[0] == pytest.approx(1.0)
    assert read.waiting[1:].sum() == 0
    # Served is what prefill can do, no matter how much more comes.
    double = run(plant(1, 2), 120, 120.0)
    assert double.readings().requests_finished[0] == pytest.approx(finished, rel=0.05)
    assert said.ttft_met[60:].sum() == 0
    assert read.running[1:].sum() < 40


def test_a_choked_decode_queues_and_its_output_saturates() -> None:
    busy, busier = (run(plant(8, 1), 120, rate, output=400) for rate in (20.0, 40.0))
    first, second = busy.readings(), busier.readings()
    assert first.waiting[-1] > 100
    assert first.generation_tokens[-1] == pytest.approx(second.generation_tokens[-1], rel=0.02)
    assert first.running[-1] == pytest.approx(32, rel=0.01)
    assert busy.outcomes().ttft_met[100:].sum() == 0


def test_what_is_closed_serves_what_it_has_and_takes_nothing_new() -> None:
    over = run(plant(2, 2), 30, 8.0)
    over.close("d0")
    over.close("p0")
    before = over.readings()
    assert over.held("d0") > 0
    run(over, 20, 8.0)
    after = over.readings()
    assert over.held("d0") == 0
    assert over.held("p0") == 0
    assert after.generation_tokens[2] > before.generation_tokens[2]
    assert after.requests_finished[1] > before.requests_finished[1]
    assert over.outcomes().failed.sum() == 0
    over.remove("d0")
    over.remove("p0")
    assert over.outcomes().failed.sum() == 0


def test_who_ends_with_work_fails_it() -> None:
    over = run(plant(1, 2), 30, 8.0)
    held = over.held("d1")
    assert held > 1
    over.remove("d1")
    assert over.outcomes().failed.sum() == pytest.approx(held)
    with pytest.raises(KeyError, match="d1 has not joined"):
        over.held("d1")


def test_with_nobody_open_requests_wait() -> None:
    over = plant(1, 1)
    over.close("p0")
    run(over, 10, 5.0)
    assert over.outcomes().failed.sum() == 0
    assert inside(over)[0] == pytest.approx(50)
    over.open("p0")
    run(over, 30, 0)
    assert over.outcomes().finished.sum() == pytest.approx(50)
    assert over.outcomes().ttft_met.sum() < 5


def test_what_no_engine_has_room_for_fails_at_once() -> None:
    over = plant(1, 1)
    n = np.array([1.0, 2.0])
    over.advance(n, n * [41_000, 500], n * [10, 10])
    assert over.outcomes().failed[0] == pytest.approx(1.0)
    run(plant(1, 1), 1, 0)
    over.advance(n * 0, n * 0, n * 0)
    for _ in range(20):
        over.advance(n * 0, n * 0, n * 0)
    assert over.outcomes().finished[0] == pytest.approx(2.0)


def test_cached_prompts_cost_no_prefill() -> None:
    half = PlantSettings(Slo(1.0, 0.05), workload=Workload(cache_hit=0.5))
    read = run(plant(1, 1, half), 30, 4.0, prompt=2000).readings()
    cold = run(plant(1, 1), 30, 4.0, prompt=2000).readings()
    assert read.computed_prompt_tokens[0] == pytest.approx(read.prompt_tokens[0] / 2)
    assert read.gpu_util[0] < 0.6 * cold.gpu_util[0]


def test_a_cold_engine_is_slower_until_it_is_warm() -> None:
    wear = PlantSettings(Slo(1.0, 0.05), wear=Wear(warm_up=20, warm_up_speed=0.5))
    over = run(plant(1, 1, wear), 10, 4.0)
    cold = over.readings().gpu_util[0]
    assert run(over, 20, 4.0).readings().gpu_util[0] == pytest.approx(cold / 2, rel=0.02)


@pytest.mark.parametrize(
    ("role", "gpu_type", "complaint"),
    [
        (Role.AGGREGATED, "A", "no engines of role aggregated"),
        (Role.DECODE, "C", "no speed of C for decode; there is A, B"),
    ],
)
def test_who_cannot_work_here_is_refused(role: Role, gpu_type: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plant(1, 1).join(seat("x", role, gpu_type))


def test_nobody_joins_twice() -> None:
    with pytest.raises(ValueError, match="has joined before"):
        plant(1, 1).join(seat("p0", Role.PREFILL))


def test_a_plant_without_engines_keeps_what_comes_and_can_be_read() -> None:
    over = run(plant(0, 0), 3, 2.0)
    assert list(over.readings().ids) == []
    assert inside(over)[0] == pytest.approx(6)
    over.join(seat("p", Role.PREFILL))
    over.open("p")
    run(over, 5, 0)
    assert over.readings().requests_finished[0] == pytest.approx(6)
    over.join(seat("d", Role.DECODE))
    over.open("d")
    run(over, 20, 0)
    assert over.outcomes().finished.sum() == pytest.approx(6)
    over.remove("p")
    over.remove("d")
    assert list(run(over, 1, 1.0).readings().ids) == []


def test_a_wholly_cached_prompt_takes_no_prefill_at_all() -> None:
    cached = PlantSettings(Slo(1.0, 0.05), workload=Workload(cache_hit=1.0))
    over = run(plant(1, 1, cached), 20, 5.0)
    assert over.readings().gpu_util[0] < 1e-6
    assert run(over, 10, 0).outcomes().met.sum() == pytest.approx(100)


def test_types_share_the_queue_by_what_they_can_do() -> None:
    over = plant(1, 2)
    over.join(seat("slow", Role.PREFILL, "B"))
    over.open("slow")
    fast, slow = run(over, 30, 12.0).readings().requests_finished[:2]
    # B takes twice as long: it gets half as many, and both are busy as long.
    assert slow == pytest.approx(fast / 2, rel=0.02)
    util = over.readings().gpu_util
    assert util[0] == pytest.approx(util[1])


def test_a_faster_decode_ends_more() -> None:
    over = plant(2, 1)
    over.join(seat("slow", Role.DECODE, "B"))
    over.open("slow")
    read = run(over, 120, 3.0, output=400).readings()
    # The least loaded are chosen: both batches are as large, and B's steps take twice as long.
    assert read.running[2] == pytest.approx(read.running[3], rel=0.1)
    assert read.requests_finished[3] == pytest.approx(read.requests_finished[2] / 2, rel=0.1)


def test_roles_may_run_on_profiles_of_their_own() -> None:
    both = profile()
    only = both.model_copy(update={"gpus": {"B": both.gpus["B"]}})
    over = FlowPlant({Role.PREFILL: both, Role.DECODE: only}, PlantSettings(Slo()), 60)
    over.join(seat("p", Role.PREFILL, "A"))
    over.join(seat("d", Role.DECODE, "B"))
    with pytest.raises(ValueError, match="no speed of A for decode"):
        over.join(seat("e", Role.DECODE, "A"))
    with pytest.raises(ValueError, match="no profile for decode"):
        FlowPlant({Role.PREFILL: both}, PlantSettings(Slo()), 60)
