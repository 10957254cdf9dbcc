"""How much an instance holds, and how many are needed: by hand, and by trying every count."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_simulator.measures.capacity import (
    QUANTILE,
    Journey,
    Offer,
    decode_capacity,
)
from heteroscale_simulator.measures.minutes import Minutes
from heteroscale_simulator.measures.need import Case, preferred, prefill_queue
from heteroscale_simulator.measures.oracle import fixed, free, needs, static_peak
from heteroscale_simulator.measures.prefill_queue import PrefillQueue
from heteroscale_simulator.measures.targets import targets
from heteroscale_simulator.plant.port import Slo, Workload
from heteroscale_simulator.profiles import GpuProfile, LinkProfile, load_profile
from heteroscale_simulator.traffic.load import Floats, Load

DEMO = load_profile("demo")
H20, L20 = DEMO.gpu("H20"), DEMO.gpu("L20")
LINK = LinkProfile(gigabytes_per_second=1.31072, latency_ms=10)  # 0.1 s for 1,000 tokens of 128 KiB
P, D = Role.PREFILL, Role.DECODE


def journey(ttft: float | None = 1.0, tbt: float | None = 0.08, hit: float = 0.0) -> Journey:
    return Journey(Slo(ttft, tbt), Workload(hit), LINK, 131072)


def steady(rate: float, prompt: float = 1000, output: float = 100, seconds: int = 120) -> Load:
    requests = np.full((seconds, 1), float(rate))
    return Load(requests, requests * prompt, requests * output)


def one_type(load: Load, gpu: GpuProfile = H20, how: Journey | None = None) -> Case:
    offers = {role: [Offer("H20", 1, gpu, 60)] for role in (P, D)}
    return Case(Minutes.of(load), offers, how or journey())


def test_minutes_are_means_of_their_seconds_and_the_last_may_be_short() -> None:
    requests = np.zeros((90, 2))
    requests[:60, 0], requests[60:, 1] = 2, 4
    minutes = Minutes.of(Load(requests, requests * [100, 300], requests * [10, 30]))
    assert minutes.edges.tolist() == [0, 60, 90]
    assert minutes.rate.tolist() == [[2, 0], [0, 4]]
    assert minutes.prompt_rate.tolist() == [200, 1200]
    assert minutes.output_rate.tolist() == [20, 120]
    assert minutes.context.tolist() == [105, 315]
    # Tokens: 1,200 at 105 and 3,600 at 315.
    assert minutes.mean_context == pytest.approx((1200 * 105 + 3600 * 315) / 4800)


def test_a_minute_can_be_as_its_busiest_seconds_are() -> None:
    requests = np.ones((90, 1))
    requests[20:30], requests[70:75] = 7, 4  # means: 2, and 1.5 of the short minute
    load = Load(requests, requests * 100, requests * 10)
    peaks = Minutes.busiest(load, 10)
    assert peaks.edges.tolist() == [0, 60, 90]
    assert peaks.rate[:, 0].tolist() == [7, 2.5]
    assert peaks.prompt[:, 0].tolist() == [100, 100]
    whole, mean = Minutes.busiest(load, 60), Minutes.of(load)
    assert whole.rate.tolist() == mean.rate.tolist() == [[2], [1.5]]
    with pytest.raises(ValueError, match="1 to 60"):
        Minutes.busiest(load, 61)


def test_each_role_is_sized_by_its_own_bursts() -> None:
    requests = np.full((60, 1), 5.0)
    requests[:10] = 20
    load = Load(requests, requests * 1000, requests * 100)
    calm = one_type(load)
    prompts = replace(calm, peaks=Minutes.busiest(load, 10))
    assert needs(prompts).counts[P][0] > needs(calm).counts[P][0]
    assert needs(prompts).counts[D][0] == needs(calm).counts[D][0]
    answers = replace(calm, decode_peaks=Minutes.busiest(load, 10, "output_tokens"))
    assert needs(answers).counts[P][0] == needs(calm).counts[P][0]
    assert needs(answers).counts[D][0] > needs(calm).counts[D][0]


def test_a_load_without_a_second_is_refused() -> None:
    with pytest.raises(ValueError, match="without a second"):
        Minutes.of(Load(*(np.zeros((0, 1)),) * 3))


def test_decode_takes_the_largest_batch_that_keeps_slo_kv_and_engine() -> None:
    # H20 at context 1,024: 40 → 42 ms from batch 4 to …, 49 ms at 8, 64 ms at 16.
    by_slo, by_kv, by_engine = (
        decode_capacity(H20, np.array([context]), tbt)
        for context, tbt in ((1024.0, 0.049), (2400.0, None), (128.0, None))
    )
    assert (by_slo.batch[0], by_slo.step[0]) == (8, pytest.approx(0.049))
    assert by_slo.rate[0] == pytest.approx(8 / 0.049)
    assert by_kv.batch[0] == 10  # 24,000 tokens of KV
    assert (by_engine.batch[0], by_engine.step[0]) == (16, pytest.approx(0.058))


@given(st.floats(1, 5000), st.one_of(st.none(), st.floats(0.03, 0.2)))
@settings(max_examples=60, deadline=None)
def test_decode_agrees_with_the_profile(context: float, tbt: float | None) -> None:
    capacity = decode_capacity(L20, np.array([context]), tbt)
    limit = None if tbt is None else tbt * (1 + 1e-9)
    rate, batch = L20.decode_rate(context, limit)
    assert (capacity.batch[0], capacity.rate[0]) == (batch, pytest.approx(rate))


def test_ttft_has_prefill_transfer_and_one_step_beside_the_wait() -> None:
    minutes = Minutes.of(steady(1, prompt=1024))
    queue = PrefillQueue(minutes, H20, journey(ttft=1.0), np.full(2, 0.05))
    own, transfer = 0.440, 1024 * 131072 / 1.31072e9 + 0.010
    assert queue.room[0, 0] == pytest.approx(1.0 - own - transfer - 0.05)
    assert queue.work[0] == pytest.approx(0.440)


def test_met_is_one_less_those_who_wait_too_long() -> None:
    # One instance, half a prompt a second; 2,048 tokens fill a batch: 0.96 s, load 0.48, c_s = 0.
    minutes = Minutes.of(steady(0.5, prompt=2048))
    queue = PrefillQueue(minutes, H20, journey(ttft=3.0), np.full(2, 0.05))
    room = 3.0 - 0.96 - (2048 * 131072 / 1.31072e9 + 0.010) - 0.05
    mean = 0.5 * 0.96 / (1 - 0.48)
    assert queue.met(np.ones(2), np.ones(2))[0] == pytest.approx(1 - 0.48 * exp(-room / mean))


def test_prompts_that_wait_are_prefilled_together_and_it_pays() -> None:
    # A prompt of one token takes 20 ms alone: 100 a second would be two instances' work. Together
    # they are a few tokens a batch, and one instance is plenty.
    queue = PrefillQueue(
        Minutes.of(steady(100, prompt=1)), H20, journey(ttft=1.0), np.full(2, 0.05)
    )
    assert queue.work[0] == pytest.approx(2.0)
    assert queue.need(np.ones(2)).tolist() == [1, 1]


def test_the_prefix_cache_shortens_prefill_but_not_the_transfer() -> None:
    minutes = Minutes.of(steady(1, prompt=2048))
    queue = PrefillQueue(minutes, H20, journey(ttft=1.0, hit=0.5), np.zeros(2))
    assert queue.work[0] == pytest.approx(0.440)
    assert queue.room[0, 0] == pytest.approx(1 - 0.440 - 2048 * 131072 / 1.31072e9 - 0.010)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(1, 4000)), min_size=1, max_size=4),
    st.floats(0.3, 5),
)
@settings(max_examples=40, deadline=None)
def test_need_is_the_first_count_that_holds(
    classes: list[tuple[float, float]], ttft: float
) -> None:
    requests = np.array([[rate for rate, _ in classes]] * 60)
    load = Load(requests, requests * [prompt for _, prompt in classes], requests)
    queue = PrefillQueue(Minutes.of(load), H20, journey(ttft), np.full(1, 0.05))
    everyone = np.ones(1)

    def holds(count: int) -> bool:
        instances: Floats = np.array([float(count)])
        return bool(queue.met(instances, everyone)[0] >= QUANTILE)

    need = int(queue.need(everyone)[0])
    tried = next(n for n in range(10_000) if holds(n) or not queue.work[0])
    assert need == tried


def test_requests_that_nobody_can_answer_in_time_are_left_out() -> None:
    requests = np.array([[10.0, 1.0]] * 60)
    load = Load(requests, requests * [256, 4096], requests * 10)  # 0.11 s and 2 s of prefill
    queue = PrefillQueue(Minutes.of(load), H20, journey(ttft=1.0), np.zeros(1))
    few = np.array([1e6])
    assert queue.met(few, np.ones(1)).tolist() == [1.0]
    assert queue.work[0] == pytest.approx(10 * 0.110 + 2.0)  # and still they are served


def test_without_a_ttft_slo_it_is_enough_to_keep_up() -> None:
    minutes = Minutes.of(steady(10, prompt=1024))  # 4.4 instances' work
    queue = PrefillQueue(minutes, H20, journey(ttft=None), np.zeros(2))
    assert queue.need(np.ones(2)).tolist() == [5, 5]


def test_more_instances_hold_a_larger_share() -> None:
    queue = PrefillQueue(Minutes.of(steady(10)), H20, journey(), np.full(2, 0.05))
    need = int(queue.need(np.ones(2))[0])
    shares = [queue.held_share(count)[0] for count in range(need + 1)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0, abs=1e-9)
    assert shares[-2] < shares[-1] == 1.0


def test_needs_of_a_steady_load() -> None:
    # 10 requests/s of 100 tokens: 1,000 tokens/s at context 1,050; a batch of 16 steps in 64.2 ms.
    case = one_type(steady(10))
    wanted = needs(case)
    rate = decode_capacity(H20, np.array([1050.0]), 0.08).rate[0]
    assert rate == pytest.approx(16 / (0.064 + 0.024 * 26 / 3072))
    assert wanted.counts[D].tolist() == [5, 5]
    assert wanted.counts[P].min() >= 5  # 4.3 instances' work
    peak = static_peak(wanted).gpu_hours
    assert free(wanted).gpu_hours == fixed(wanted).gpu_hours == peak


def test_no_traffic_needs_one_of_each() -> None:
    wanted = needs(one_type(steady(0)))
    assert [wanted.counts[role].tolist() for role in (P, D)] == [[1, 1], [1, 1]]


def two_types(load: Load, fleet: dict[str, int] | None, how: Journey | None = None) -> Case:
    offers = [Offer("L20", 1, L20, 60), Offer("H20", 1, H20, 60)]
    return Case(Minutes.of(load), {P: offers, D: offers}, how or journey(), fleet)


def test_the_type_with_the_fewest_gpu_seconds_per_token_goes_first() -> None:
    case = two_types(steady(10), None)
    assert [offer.gpu_type for offer in preferred(case, D)] == ["H20", "L20"]
    assert [offer.gpu_type for offer in preferred(case, P)] == ["H20", "L20"]


def test_a_type_too_slow_for_the_promise_is_left_out() -> None:
    case = two_types(steady(10), None, journey(tbt=0.05))  # L20 needs 54 ms for one alone
    assert [offer.gpu_type for offer in preferred(case, D)] == ["H20"]
    case = two_types(steady(10), None, journey(ttft=0.61))  # 0.54 s of prefill on L20
    assert [offer.gpu_type for offer in preferred(case, P)] == ["H20"]


def test_a_promise_that_nobody_can_keep_is_refused_with_what_can_be_had() -> None:
    with pytest.raises(ValueError, match=r"TBT of 0.03 s.*fastest step is 0.037"):
        needs(two_types(steady(10), None, journey(tbt=0.03)))


def test_the_next_type_takes_what_the_first_cannot() -> None:
    plenty = needs(two_types(steady(10), {"H20": 100, "L20": 100}))
    scarce = needs(two_types(steady(10), {"H20": 8, "L20": 100}))
    assert not scarce.short_seconds
    assert scarce.counts[P].sum() + scarce.counts[D].sum() > (
        plenty.counts[P].sum() + plenty.counts[D].sum()
    )
    used = [h for h in free(scarce).held if h.gpu_type == "H20"]
    assert len(used) == 8


def test_a_fleet_that_is_too_small_says_for_how_long() -> None:
    wanted = needs(two_types(steady(10), {"H20": 4, "L20": 0}))
    assert wanted.short_seconds == 120
    assert sum(int(wanted.counts[role][0]) for role in (P, D)) == 4
    with pytest.raises(ValueError, match="no room for one"):
        needs(two_types(steady(10), {"H20": 1}))


@given(st.lists(st.floats(0, 40), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_more_traffic_never_needs_less(rates: list[float]) -> None:
    load = np.repeat(np.sort(rates), 60)[:, None]
    wanted = needs(one_type(Load(load, load * 800, load * 90)))
    for role in (P, D):
        assert (np.diff(wanted.counts[role]) >= 0).all()


# ---- targets ---------------------------------------------------------------------------------


def test_targets_are_the_largest_loads_that_hold() -> None:
    case = one_type(steady(10))
    found = targets(case)
    assert found[D] == decode_capacity(H20, np.array([1050.0]), 0.08).rate[0]
    queue = prefill_queue(case, case.offers[P][0])
    count = int(needs(case).counts[P].max())
    # So many instances hold the load, and a little more of it; 1 % beyond the target they do not.
    more = found[P] * count / 10_000
    assert more >= 1
    assert queue.need(np.full(2, more * 0.999)).tolist() == [count] * 2
    assert queue.need(np.full(2, more * 1.01)).tolist() == [count + 1] * 2


def test_without_traffic_the_target_is_what_an_instance_does_at_all() -> None:
    assert targets(one_type(steady(0)))[P] == pytest.approx(H20.prefill_rate(2048))


def test_targets_are_of_the_type_that_is_launched_first() -> None:
    case = two_types(steady(2), None)  # L20 is named first, H20 needs fewer GPU-seconds
    found = targets(case)
    assert found[D] == decode_capacity(L20, np.array([1050.0]), 0.08).rate[0]
    assert found[P] < targets(one_type(steady(2)))[P]
    tight = targets(two_types(steady(2), None, journey(tbt=0.05)))  # which L20 cannot hold
    assert tight[D] == decode_capacity(H20, np.array([1050.0]), 0.05).rate[0]
