"""The plant's parts, each by itself: pairs, links, levels, rings, waits, the queue before prefill."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import Role
from heteroscale_simulator.plant import ring as r
from heteroscale_simulator.plant.backlog import Arrived, Backlog
from heteroscale_simulator.plant.cohorts import COUNT, DELAYS, MET, WIDTH, met_after
from heteroscale_simulator.plant.pairing import distances
from heteroscale_simulator.plant.port import Seat
from heteroscale_simulator.plant.queueing import waiting
from heteroscale_simulator.plant.ring import Ring
from heteroscale_simulator.plant.transfer import Links
from heteroscale_simulator.plant.waits import Waits, share_within, waits
from heteroscale_simulator.plant.water import fill
from heteroscale_simulator.profiles import Distance
from tests.simulator.plants import profile, seat


def grouped(name: str, role: Role, group: str, **domains: str) -> Seat:
    return Seat(name, role, "A", 1, domains, group)


# ---- pairing and links -------------------------------------------------------------------------


def nearest(one: Seat, other: Seat) -> Distance:
    levels: tuple[Distance, ...] = ("s0", "s1", "s2")
    for level in levels:
        name = one.domains.get(level)
        if name and name == other.domains.get(level):
            return level
    return "cluster"


NAMES = st.fixed_dictionaries(
    {}, optional={level: st.sampled_from("ab") for level in ("s0", "s1", "s2")}
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(NAMES, min_size=1, max_size=5))
def test_distances_are_those_of_all_pairs_one_by_one(
    ours: list[dict[str, str]], theirs: list[dict[str, str]]
) -> None:
    prefill = [seat(f"p{n}", Role.PREFILL, **names) for n, names in enumerate(ours)]
    decode = [seat(f"d{n}", Role.DECODE, **names) for n, names in enumerate(theirs)]
    found = distances([(s, 1.0) for s in prefill], [(s, 1.0) for s in decode])
    pairs = [nearest(p, d) for p, d in product(prefill, decode)]
    for distance, share in found.items():
        assert share == pytest.approx(pairs.count(distance) / len(pairs), abs=1e-9)


def test_groups_pair_inside_and_cross_with_what_is_left() -> None:
    prefill = [
        (grouped("p0", Role.PREFILL, "g", s1="x"), 1.0),
        (grouped("p1", Role.PREFILL, "h", s1="y"), 1.0),
    ]
    even = [
        (grouped("d0", Role.DECODE, "g", s1="x"), 1.0),
        (grouped("d1", Role.DECODE, "h", s1="y"), 1.0),
    ]
    assert distances(prefill, even)["s1"] == pytest.approx(1.0)
    # g decodes three quarters, so a quarter of all comes from h.
    uneven = [(even[0][0], 3.0), even[1]]
    found = distances(prefill, uneven)
    assert found["s1"] == pytest.approx(0.75)
    assert found["cluster"] == pytest.approx(0.25)


def test_without_a_role_there_is_no_near() -> None:
    assert distances([], [(seat("d", Role.DECODE, s1="x"), 1.0)]) == {"cluster": 1.0}


def links(prefill: int, decode: int, level: str = "s1") -> Links:
    made = Links(profile().transfer, 100_000)
    made.pair(
        [(seat(f"p{n}", Role.PREFILL, **{level: "x"}), 1.0) for n in range(prefill)],
        [(seat(f"d{n}", Role.DECODE, **{level: "x"}), 1.0) for n in range(decode)],
    )
    return made


def test_a_transfer_takes_bytes_by_bandwidth_and_latency_by_distance() -> None:
    tokens = np.array([1000.0])
    assert links(1, 1).seconds(tokens) == pytest.approx(1e8 / 10e9 + 0.001)
    assert links(1, 1, "s0").seconds(tokens) == pytest.approx(1e8 / 100e9)
    assert links(1, 1, "none").seconds(tokens) == pytest.approx(1e8 / 1e9 + 0.005)


def test_links_in_use_are_slower_and_full_ones_queue() -> None:
    tokens = np.array([1000.0])
    quiet, busy, full = links(2, 2), links(2, 2), links(2, 2)
    for _ in range(60):
        quiet.carry(1e4)
        busy.carry(1.6e5)
        full.carry(3e5)
    assert busy.load == pytest.approx(0.8, abs=0.01)
    assert busy.seconds(tokens)[0] == pytest.approx(0.001 + 0.01 * (1 + 0.8 / 0.4), rel=0.02)
    assert quiet.seconds(tokens)[0] < 0.012
    # A second more than two links carry asks for a second more, every two seconds.
    assert full.seconds(tokens)[0] == pytest.approx(60 * 0.5, rel=0.05)
    for _ in range(60):
        full.carry(0)
    assert full.seconds(tokens)[0] == pytest.approx(quiet.seconds(tokens)[0], rel=0.05)


def test_the_scarcer_side_has_the_links() -> None:
    one_receiver, many = links(4, 1), links(4, 4)
    for made in (one_receiver, many):
        for _ in range(60):
            made.carry(5e4)
    assert one_receiver.load == pytest.approx(4 * many.load)


# ---- water -------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(1, 300), st.floats(0, 50)), min_size=1, max_size=8
    ),
    st.floats(0.001, 300),
)
def test_water_finds_its_level(vessels: list[tuple[float, float, float]], amount: float) -> None:
    held, size, room = (np.array(column) for column in zip(*vessels, strict=True))
    taken = fill(held, size, room, amount)
    assert (taken >= 0).all()
    assert (taken <= room * (1 + 1e-9)).all()
    assert taken.sum() == pytest.approx(min(amount, room.sum()), rel=1e-6)
    after = (held + taken) / size
    # Who took something stands no higher than who could take more.
    takes, could = taken > 1e-6, taken < room - 1e-6
    if takes.any() and could.any():
        assert after[takes].max() <= after[could].min() + 1e-5


# ---- the ring ----------------------------------------------------------------------------------


def joining(count: float, prompt: float, output: float) -> np.ndarray[tuple[int, int], np.dtype]:
    each = np.zeros((1, r.COLUMNS))
    each[0, r.IN_BATCH], each[0, r.PROMPTS] = count, count * prompt
    each[0, r.TOKENS] = count * output
    return each


@given(
    st.lists(st.tuples(st.floats(0.01, 9), st.floats(1, 3000)), min_size=1, max_size=12),
    st.floats(5, 90),
)
def test_who_joins_ends_once_with_all_his_tokens(
    requests: list[tuple[float, float]], speed: float
) -> None:
    ring = Ring(8)
    ring.join()
    ring.join()
    clocks = np.array([0.0, 100.0])
    ring.take(clocks)
    ended = np.zeros(r.COLUMNS)
    for count, output in requests:
        ring.put(joining(count, 10, output), np.array([0.25, 0.75]), clocks)
        clocks = clocks + np.array([speed, speed / 2])
        ended += ring.take(clocks).sum(axis=(0, 1))
    while clocks[1] < 4000 + 100:
        clocks = clocks + 50.0
        ended += ring.take(clocks).sum(axis=(0, 1))
    assert ended[r.IN_BATCH] == pytest.approx(sum(count for count, _ in requests))
    assert ended[r.TOKENS] == pytest.approx(sum(count * output for count, output in requests))
    assert not ring.buckets.any()


def test_a_bucket_ends_when_the_clock_passes_its_middle() -> None:
    ring = Ring(10)
    ring.join()
    ring.put(joining(1, 5, 33), np.ones(1), np.zeros(1))
    assert ring.take(np.array([34.9])).sum() == 0
    assert ring.take(np.array([35.0]))[0, :, r.IN_BATCH].sum() == 1


def test_classes_that_end_together_are_one_and_lose_nothing() -> None:
    ring = Ring(10)
    ring.join()
    alike = np.concatenate([joining(1, 5, 31), joining(2, 7, 33), joining(4, 1, 333)])
    assert ring.put(alike, np.ones(1), np.zeros(1)) == (7.0, 23.0)
    assert np.count_nonzero(ring.buckets[0, :, r.IN_BATCH]) == 2
    assert ring.buckets[..., r.TOKENS].sum() == 31 + 66 + 4 * 333


def test_one_length_ends_neither_early_nor_late_on_average() -> None:
    ring, late = Ring(25), []
    ring.join()
    for start in np.arange(400) * 37.0:
        ring.take(np.array([start]))
        ring.put(joining(1, 5, 100), np.ones(1), np.array([start]))
        found = int(np.flatnonzero(ring.buckets[0, :, r.IN_BATCH])[0])
        ahead = (found - ring.done[0]) % ring.size
        late.append((ring.done[0] + ahead + 0.5) * 25 - (start + 100))
        ring.buckets[:] = 0
    assert np.mean(late) == pytest.approx(0, abs=1.0)
    assert np.abs(late).max() <= 25


# ---- waits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", [1, 3, 40])
@pytest.mark.parametrize("load", [0.1, 0.6, 0.8])
def test_waits_are_those_of_the_shared_formula(servers: int, load: float) -> None:
    ours = waits(load, servers, 0.01, 0.3)
    theirs = waiting(servers, load * servers, 0.01, 1.3 / 2)
    assert ours.chance == pytest.approx(float(theirs.probability))
    assert ours.mean == pytest.approx(float(theirs.mean))


def test_near_full_a_queue_has_grown_no_further_than_its_time_allows() -> None:
    nearly, over = waits(0.99, 1, 0.1, 0.0), waits(3.0, 1, 0.1, 0.0)
    assert nearly.expected < 1.0
    assert over.expected == pytest.approx(nearly.expected, rel=0.05)
    assert waits(0.0, 1, 0.1, 0.0).expected == 0


@given(st.floats(0, 3), st.floats(0, 3), st.floats(0, 1), st.floats(0.001, 2), st.floats(-1, 6))
def test_the_share_within_is_the_mean_over_the_waits(
    first: float, last: float, chance: float, mean: float, slack: float
) -> None:
    told = share_within(first, last, Waits(chance, mean), np.array([slack]))[0]
    steps = first + (last - first) * (np.arange(4000) + 0.5) / 4000
    left = slack - steps
    each = np.where(left >= 0, 1 - chance * np.exp(-np.maximum(left, 0) / mean), 0.0)
    assert told == pytest.approx(each.mean(), abs=0.01 if abs(last - first) > 1e-3 else 1.0)
    assert -1e-9 <= told <= 1 + 1e-9


def test_met_after_a_delay_is_exact_at_the_grid_and_straight_between() -> None:
    cohort = np.zeros((1, WIDTH))
    cohort[0, COUNT] = 10
    cohort[0, MET:] = np.linspace(8, 1, len(DELAYS))
    assert met_after(cohort, 0.0, 2.0)[0] == 8
    assert met_after(cohort, 2.0 * DELAYS[3], 2.0)[0] == pytest.approx(5)
    assert met_after(cohort, DELAYS[3] + DELAYS[4], 2.0)[0] == pytest.approx(4.5)
    assert met_after(cohort, 2.0, 2.0)[0] == 0
    assert met_after(cohort, 99.0, None)[0] == 10


# ---- the queue before prefill ------------------------------------------------------------------


def arrived(second: int, requests: float) -> Arrived:
    return Arrived(second, np.array([[requests], [requests], [requests]]), requests, requests)


def test_at_ease_all_start_at_once() -> None:
    queue = Backlog()
    queue.add(arrived(0, 10))
    pieces, busy = queue.serve(0, lambda row: row.total / 20)
    assert busy == pytest.approx(0.5)
    assert [(piece.share, piece.first_wait, piece.last_wait) for piece in pieces] == [(1, 0, 0)]
    assert queue.requests == 0


def test_too_much_waits_longer_and_longer_then_less_and_less() -> None:
    queue = Backlog()
    served = []
    for second in range(6):
        queue.add(arrived(second, 20.0 if second < 2 else 5.0))
        pieces, busy = queue.serve(second, lambda row: row.total / 10)
        served.append(sum(piece.share * piece.of.total for piece in pieces))
        if second < 5:
            assert busy == pytest.approx(1.0)
        if second == 1:
            assert queue.requests == pytest.approx(20)
    # Ten a second until forty and what came meanwhile are through, as arithmetic says.
    assert served == pytest.approx([10] * 6)
    assert queue.requests == pytest.approx(0.0, abs=1e-9)


def test_waits_are_taken_when_work_starts() -> None:
    queue = Backlog()
    queue.add(arrived(0, 20))
    queue.serve(0, lambda row: row.total / 10)
    pieces, _ = queue.serve(1, lambda row: row.total / 40)
    # The second half came from 0.5 on; four times as fast, it is begun within a quarter second.
    assert (pieces[0].first_wait, pieces[0].last_wait) == pytest.approx((0.5, 0.25))


def test_a_cut_takes_its_share_of_what_has_not_been_served() -> None:
    queue = Backlog()
    queue.add(arrived(0, 20))
    queue.serve(0, lambda row: row.total / 10)
    assert [gone for _, gone in queue.cut(0.25)] == pytest.approx([2.5])
    assert queue.requests == pytest.approx(7.5)
    pieces, _ = queue.serve(1, lambda row: row.total / 10)
    assert sum(piece.share * piece.of.total for piece in pieces) == pytest.approx(7.5)
