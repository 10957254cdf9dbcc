"""The event simulation: hand-computed times, known queues, and nothing lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_simulator.events import Deployment, Request, play, requests_of
from heteroscale_simulator.events.deployment import distance
from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.traffic.load import Load
from tests.simulator.ground import profile, seats


def deployment(prefill: int, decode: int, **kinds: int) -> Deployment:
    speeds = profile(**kinds)
    return Deployment({Role.PREFILL: speeds, Role.DECODE: speeds}, seats(prefill, decode))


def test_one_request_takes_what_its_parts_take() -> None:
    (one,) = play([Request(1.0, 1000, 11)], deployment(1, 1))
    prefilled = 1.0 + 0.1
    assert one.prefilled_at == pytest.approx(prefilled)
    # 100 MB at 50 GB/s, and the link's millisecond.
    admitted = prefilled + 0.002 + 0.001
    assert one.admitted_at == pytest.approx(admitted)
    assert one.first_token_at == pytest.approx(admitted + 0.01025)
    assert one.finished_at == pytest.approx(admitted + 11 * 0.01025)
    assert one.tbt == pytest.approx(0.01025)
    assert one.ttft == pytest.approx(0.1 + 0.003 + 0.01025)


def test_what_comes_to_one_engine_at_once_comes_one_after_another() -> None:
    answers = play([Request(0.0, 2000, 1)] * 3, deployment(3, 1))
    # Three senders, 200 MB each at 50 GB/s into one NIC, and the link's millisecond.
    assert [one.admitted_at for one in answers] == pytest.approx([0.205, 0.209, 0.213])


def test_short_prompts_that_wait_are_prefilled_together() -> None:
    first, *rest = play([Request(0.0, 1000, 1)] + [Request(0.01, 500, 1)] * 5, deployment(1, 1))
    assert first.prefilled_at == pytest.approx(0.1)
    # Four fit into a batch of 2,048 tokens; the fifth comes after.
    assert [one.prefilled_at for one in rest] == pytest.approx([0.3] * 4 + [0.35])


def test_a_batch_slows_its_requests_and_a_full_one_queues_them() -> None:
    asked = [Request(0.0, 1, 100)] * 3
    answers = play(asked, deployment(1, 1, max_batch=2))
    together = 0.01 + 2 / 4000
    assert answers[0].tbt == pytest.approx(together)
    assert answers[2].admitted_at == pytest.approx(answers[0].finished_at)
    assert answers[2].tbt == pytest.approx(0.01025)


def test_kv_bounds_the_batch() -> None:
    answers = play([Request(0.0, 1000, 100)] * 2, deployment(1, 1, kv_capacity=2000))
    assert answers[1].admitted_at == pytest.approx(answers[0].finished_at)


def test_a_request_too_long_for_every_engine_never_ends() -> None:
    (one,) = play([Request(0.0, 5000, 10)], deployment(1, 1, kv_capacity=2000))
    assert math.isnan(one.finished_at)
    assert not math.isnan(one.prefilled_at)


def test_requests_go_where_the_batch_is_smallest() -> None:
    answers = play([Request(0.0, 1, 50)] * 4, deployment(4, 2))
    # Two and two: three together would take 10.75 ms a step, one alone 10.25.
    assert [one.tbt for one in answers] == pytest.approx([0.0105] * 4, rel=0.01)


def test_without_decode_prompts_are_computed_and_nothing_more() -> None:
    (one,) = play([Request(0.0, 1000, 5)], deployment(1, 0))
    assert one.prefilled_at == pytest.approx(0.1)
    assert math.isnan(one.admitted_at)


def test_the_end_cuts_what_is_still_running() -> None:
    (one,) = play([Request(0.0, 1000, 1000)], deployment(1, 1), until=1.0)
    assert not math.isnan(one.first_token_at)
    assert math.isnan(one.finished_at)


def test_an_m_d_1_queue_waits_as_the_textbook_says() -> None:
    rng = np.random.default_rng(3)
    rate, service = 7.0, 0.1
    times = np.cumsum(rng.exponential(1 / rate, 40_000))
    # Prompts of 1,100 tokens are never batched: two exceed 2,048.
    answers = play((Request(float(at), 1100, 1) for at in times), deployment(1, 4))
    load = rate * service * 1.1
    expected = load / (2 * (1 - load)) * service * 1.1
    waits = [one.prefilled_at - one.request.at - 0.11 for one in answers]
    assert np.mean(waits) == pytest.approx(expected, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(1, 4000), st.integers(1, 300)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_every_request_ends_once_and_in_order(
    asked: list[tuple[float, int, int]], prefill: int, decode: int
) -> None:
    requests = [Request(*one) for one in sorted(asked)]
    engines = deployment(prefill, decode)
    answers = play(requests, engines)
    assert [one.request for one in answers] == requests
    for one in answers:
        assert one.request.at < one.prefilled_at < one.admitted_at
        assert one.admitted_at < one.first_token_at <= one.finished_at
    assert all((e.batch, e.kv_tokens, e.fresh) == (0, 0, []) for e in engines.decode)


def test_distance_is_the_nearest_shared_domain() -> None:
    def seat(**domains: str) -> Seat:
        return Seat("x", Role.DECODE, "G", 1, domains)

    here = seat(s0="n1", s1="a", s2="z")
    assert distance(here, seat(s0="n1", s1="a", s2="z")) == "s0"
    assert distance(here, seat(s0="n2", s1="a", s2="z")) == "s1"
    assert distance(here, seat(s0="n2", s1="b", s2="z")) == "s2"
    assert distance(here, seat(s2="y")) == "cluster"
    assert distance(seat(), seat()) == "cluster"


def test_a_load_becomes_single_requests() -> None:
    requests = np.array([[2.0, 0.0], [0.0, 0.5]] * 500)
    load = Load(requests, requests * 100, requests * 7)
    got = list(requests_of(load, seed=1))
    assert [one.at for one in got] == sorted(one.at for one in got)
    assert {(one.prompt, one.output) for one in got} == {(100, 7)}
    even = [one for one in got if int(one.at) % 2 == 0]
    assert len(even) == 1000
    assert 200 < len(got) - len(even) < 300
    assert list(requests_of(load, seed=1)) == got
