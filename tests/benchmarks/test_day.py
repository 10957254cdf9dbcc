"""An hour of an agent's life in virtual time, in which nothing grows.

`make bench-agent ARGS=--day` lives a whole day.
"""

from __future__ import annotations

import pytest
from benchmarks.agent.day import ENGINES, Mark, live

ROUND_S = 1200.0


@pytest.fixture(scope="module")
def marks() -> list[Mark]:
    return live(3, ROUND_S)


def test_an_agent_samples_all_the_time_and_says_it_when_there_is_somebody(
    marks: list[Mark],
) -> None:
    assert [mark.samples for mark in marks] == [1200, 2400, 3600]
    # 800 of 1,200 s with a coordinator: a report every 5 s, and a hello.
    assert [mark.sent for mark in marks] == [161, 322, 483]


def test_nothing_grows_once_histories_are_full(marks: list[Mark]) -> None:
    _, settled, last = marks
    assert last.watched == settled.watched == ENGINES
    assert max(settled.history, last.history) <= 26
    # A leak of one object in each of these 1,200 samples would be seen.
    assert last.objects - settled.objects < 300
    assert last.blocks - settled.blocks < 600
