"""RDMA counters folded: each by itself, whatever wraps, sticks, resets or goes missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale_agent.model import NicReading
from heteroscale_agent.nics import (
    MAX_EVENTS_PER_SECOND,
    OCTETS_WRAP,
    SETTLED,
    WRAP_32,
    CounterSum,
    Flaps,
    NicSampler,
)

RATE = 400 * 10**9
UP = NicReading(active=True, rate_bps=RATE, received_octets=0, sent_octets=0)


def flaps(*readings: tuple[float, int | None, bool | None]) -> list[int | None]:
    """Fold (time, link_downed, active)."""
    folded = Flaps()
    return [folded.fold(counted, active, at) for at, counted, active in readings]


def test_32_bit_counters_wrap() -> None:
    nic = NicSampler()
    top = OCTETS_WRAP - 400
    last = {"packet_seq_err": WRAP_32 - 1}
    before = replace(UP, received_octets=top, sent_octets=top, retransmissions=last)
    nic.fold(before)
    after = replace(before, at=1.0, received_octets=800, sent_octets=top + 4)
    seen = nic.fold(replace(after, retransmissions={"packet_seq_err": 2}))
    assert (seen.received_octets, seen.sent_octets, seen.retransmissions) == (1200, 4, 3)


def test_a_device_reset_is_no_wrap() -> None:
    nic = NicSampler()
    nic.fold(replace(UP, received_octets=10**15, sent_octets=10**15, errors={"a": 1000}))
    nic.fold(
        replace(UP, at=1.0, received_octets=10**15 + 8, sent_octets=10**15, errors={"a": 1001})
    )
    seen = nic.fold(replace(UP, at=2.0, received_octets=40, sent_octets=0, errors={"a": 0}))
    assert (seen.received_octets, seen.sent_octets, seen.errors) == (48, 0, 1)


def test_octets_faster_than_the_wire_are_unknown() -> None:
    nic = NicSampler()
    nic.fold(replace(UP, rate_bps=8 * 10**9))
    slow = replace(UP, at=1.0, rate_bps=8 * 10**9, received_octets=10**12, sent_octets=10**9)
    seen = nic.fold(slow)
    assert (seen.received_octets, seen.sent_octets, seen.share) == (None, 10**9, None)


def test_octets_stay_exact_beyond_what_floats_hold() -> None:
    nic = NicSampler()
    nic.fold(replace(UP, sent_octets=2**60))
    assert nic.fold(replace(UP, at=1.0, sent_octets=2**60 + 1)).sent_octets == 1


# ---- sums --------------------------------------------------------------------------------------

GAINS = st.lists(st.tuples(*(st.integers(0, MAX_EVENTS_PER_SECOND),) * 3), min_size=1, max_size=30)


@given(st.tuples(*(st.integers(0, WRAP_32 - 1),) * 3), GAINS)
def test_a_sum_is_exact_however_often_its_parts_wrap(
    first: tuple[int, ...], gains: list[tuple[int, ...]]
) -> None:
    total, raw, folded = 0, list(first), CounterSum()
    folded.fold(dict(zip("abc", raw, strict=True)), 0.0)
    for at, step in enumerate(gains, start=1):
        raw = [(value + gained) % WRAP_32 for value, gained in zip(raw, step, strict=True)]
        total += sum(step)
        # A fall of less than a tenth is taken for two readings out of order, unless it is a wrap.
        assert folded.fold(dict(zip("abc", raw, strict=True)), float(at)) == total


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 10),
        ),
        max_size=30,
    )
)
def test_a_sum_never_falls_and_is_unknown_when_a_part_is(
    readings: Sequence[dict[str, int | None]],
) -> None:
    folded = CounterSum()
    totals = []
    for at, raw in enumerate(readings):
        total = folded.fold(raw, float(at))
        if not raw or None in raw.values():
            assert total is None
        totals.append(total)
    known = [total for total in totals if total is not None]
    assert all(later >= earlier for earlier, later in pairwise(known))


def test_what_was_missing_for_a_while_is_not_lost() -> None:
    folded = CounterSum()
    folded.fold({"a": 5, "b": 1}, 0.0)
    assert folded.fold({"a": 6, "b": None}, 1.0) is None
    assert folded.fold({"a": 6, "b": 4}, 2.0) == 4
    assert folded.fold({"a": 8}, 3.0) == 6
    assert folded.fold({}, 4.0) is None


# ---- flaps -------------------------------------------------------------------------------------


def test_what_was_not_read_again_keeps_its_sum() -> None:
    folded = CounterSum()
    seen: dict[str, int | None] = {"a": 5, "b": 7}
    assert folded.fold(seen, 0.0) == 0
    later: dict[str, int | None] = {"a": 6, "b": 9}
    assert [folded.fold(later, at) for at in (5.0, 6.0, 7.0)] == [3, 3, 3]
    lost: dict[str, int | None] = {"a": 7, "b": None}
    assert [folded.fold(lost, at) for at in (10.0, 11.0)] == [None, None]
    assert folded.fold({"a": 8, "b": 10}, 15.0) == 6


def test_a_flap_told_twice_is_one_whoever_is_first() -> None:
    assert flaps((0, 7, True), (1, 7, False), (2, 8, False), (3, 8, True)) == [0, 1, 1, 1]
    assert flaps((0, 7, True), (1, 8, True), (2, 8, False), (3, 8, True)) == [0, 1, 1, 1]


def test_flaps_too_short_to_be_seen_are_counted() -> None:
    assert flaps((0, 7, True), (1, 10, True)) == [0, 3]


def test_an_adapter_that_counts_none_is_watched() -> None:
    assert flaps((0, None, True), (1, None, False), (2, None, False), (3, None, True)) == [
        0,
        1,
        1,
        1,
    ]


def test_a_counter_that_stuck_hides_no_later_flap() -> None:
    later = SETTLED + 2
    assert flaps(
        (0, 250, True),
        (1, 255, True),
        (1 + SETTLED, 255, True),
        (later, 255, False),
        (later + 1, 255, True),
    ) == [0, 5, 5, 6, 6]


def test_a_cleared_counter_is_no_flap() -> None:
    assert flaps((0, 7, True), (1, 0, True), (2, 1, True)) == [0, 0, 1]


def test_a_state_that_is_unknown_is_no_flap() -> None:
    assert flaps((0, None, True), (1, None, None), (2, None, True), (3, None, False)) == [
        0,
        None,
        0,
        1,
    ]


@given(
    st.lists(
        st.tuples(
            st.floats(0.5, 60.0),
            st.none() | st.integers(0, 255),
            st.sampled_from([True, False, None]),
        )
    )
)
def test_flaps_never_fall(steps: list[tuple[float, int | None, bool | None]]) -> None:
    at, readings = 0.0, []
    for gap, counted, active in steps:
        at += gap
        readings.append((at, counted, active))
    known = [count for count in flaps(*readings) if count is not None]
    assert all(later >= earlier for earlier, later in pairwise(known))


# ---- shares ------------------------------------------------------------------------------------


def shares(*octets: int | None, limit: float | None = None) -> list[float | None]:
    """Return shares of a 400 Gb/s port that received so much by each second."""
    nic = NicSampler()
    readings = [replace(UP, at=float(at), received_octets=one) for at, one in enumerate(octets)]
    return [nic.fold(reading, limit).share for reading in readings]


def test_the_share_is_of_the_busier_direction() -> None:
    assert shares(0, 25 * 10**9, 25 * 10**9, 75 * 10**9) == [None, 0.5, 0.0, 1.0]


def test_a_lower_limit_counts_a_higher_one_does_not() -> None:
    assert shares(0, 25 * 10**9, limit=250e9) == [None, pytest.approx(0.8)]
    assert shares(0, 25 * 10**9, limit=800e9) == [None, 0.5]


def test_no_port_carries_more_than_all() -> None:
    assert shares(0, 25 * 10**9, limit=100e9) == [None, 1.0]


def test_an_unknown_direction_makes_the_share_unknown() -> None:
    assert shares(0, None, 25 * 10**9, 50 * 10**9) == [None, None, None, 0.5]


def test_a_reading_that_is_old_says_what_it_said() -> None:
    nic = NicSampler()
    nic.fold(UP)
    late = replace(UP, at=2.0, received_octets=50 * 10**9)
    assert [nic.fold(late).share for _ in range(3)] == [0.5, 0.5, 0.5]


def test_two_readings_at_once_say_nothing_of_the_rate() -> None:
    nic = NicSampler()
    nic.fold(UP)
    nic.fold(replace(UP, at=1.0, received_octets=25 * 10**9))
    assert nic.fold(replace(UP, at=1.001, received_octets=26 * 10**9)).share == 0.5


def test_a_link_that_is_down_has_no_share() -> None:
    nic = NicSampler()
    nic.fold(UP)
    down = replace(UP, at=1.0, active=False, rate_bps=None)
    assert nic.fold(down, 100e9).share is None
