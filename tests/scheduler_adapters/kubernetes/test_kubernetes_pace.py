"""Turns of requests: so many at once, so many a second, none while the server asks to be left alone."""

from __future__ import annotations

import pytest

from heteroscale_scheduler_adapters.kubernetes.pace import Pace


def test_a_burst_goes_at_once_and_the_rest_one_by_one() -> None:
    pace = Pace(per_second=10.0, burst=3)
    assert [pace.take(5.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


def test_turns_come_back_with_time_and_no_more_than_a_burst() -> None:
    pace = Pace(per_second=10.0, burst=2)
    assert [pace.take(0.0), pace.take(0.0)] == [0.0, 0.0]
    assert pace.take(0.2) == 0.0
    assert [pace.take(100.0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])


def test_nobody_goes_before_the_server_wants_it() -> None:
    pace = Pace(per_second=10.0, burst=2)
    pace.hold(0.0, 7.0)
    pace.hold(0.0, 3.0)
    assert pace.take(1.0) == pytest.approx(6.0)
    assert pace.take(8.0) == 0.0
