"""The wait before several engines, against what queueing theory knows exactly."""

from __future__ import annotations

from math import exp, factorial, inf

import numpy as np
import pytest

from heteroscale_simulator.plant.queueing import waiting


def erlang_c(servers: int, load: float) -> float:
    offered = servers * load
    last = offered**servers / factorial(servers) / (1 - load)
    return last / (sum(offered**k / factorial(k) for k in range(servers)) + last)


def test_one_server_waits_as_m_m_1_does() -> None:
    queue = waiting(1, 0.8, 0.5)
    assert queue.probability == pytest.approx(0.8)
    assert queue.mean == pytest.approx(0.5 / (1 - 0.8))
    assert queue.beyond(2.0) == pytest.approx(0.8 * exp(-2.0 / 2.5))


@pytest.mark.parametrize("servers", [2, 5, 10, 20])
@pytest.mark.parametrize("load", [0.7, 0.8, 0.9, 0.95])
def test_the_chance_to_wait_errs_to_the_long_side_of_erlang_c(servers: int, load: float) -> None:
    excess = waiting(servers, servers * load, 1.0).probability - erlang_c(servers, load)
    assert -0.005 <= excess <= 0.05


def test_half_the_variability_is_half_the_wait_of_waiters() -> None:
    calm, wild = waiting(4, 3, 1.0, 0.5), waiting(4, 3, 1.0, 1.0)
    assert calm.mean == pytest.approx(wild.mean / 2)
    assert calm.probability == wild.probability


def test_nobody_waits_without_work_and_all_for_ever_without_room() -> None:
    queue = waiting([0, 4, 0, 4, 4], [0, 0, 1, 4, 5], 1.0)
    assert queue.probability.tolist() == [0, 0, 1, 1, 1]
    assert queue.mean.tolist() == [0, 0, inf, inf, inf]
    assert queue.beyond(10).tolist() == [0, 0, 1, 1, 1]
    assert queue.beyond(-0.1).tolist() == [1] * 5


def test_more_servers_never_wait_longer() -> None:
    queue = waiting(np.arange(1, 200), 7.3, 0.4, 1.3)
    assert (np.diff(queue.beyond(0.5)) <= 0).all()
