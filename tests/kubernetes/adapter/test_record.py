from __future__ import annotations

import pytest

from heteroscale_scheduler_adapters.kubernetes.record import (
    RECORD,
    REMEMBERED,
    Open,
    Record,
    Seat,
    read_record,
    seat,
)
from heteroscale_scheduler_adapters.port import GateWish
from tests.kubernetes.adapter.things import launch

HELD = GateWish(open=False, reason="ratio_hold", until=9.0)
STEP = Open("d-1", 3, 60.0, (Seat("i-1", ("n1",), "g", HELD), Seat("i-2")))


def _read(text: str) -> Record | None:
    return read_record({"metadata": {"annotations": {RECORD: text}}})


def test_what_is_written_is_read_back() -> None:
    record = Record(2, 2).opened("r-1", STEP).left("i-9").finished("r-0")
    assert _read(record.dump()) == record
    assert read_record({"metadata": {}}) is None


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"replicas":"x","was":1}', '{"replicas":1,"was":1,"steps":3}'],
)
def test_what_nobody_can_read_is_as_if_it_were_not_there(text: str) -> None:
    assert _read(text) is None


def test_a_step_raises_the_number_once_and_is_not_begun_again_when_it_is_done() -> None:
    opened = Record(2, 2).opened("r-1", STEP)
    assert (opened.replicas, opened.was) == (4, 2)
    assert opened.opened("r-1", STEP) == opened
    done = opened.settled(4).finished("r-1")
    assert (done.replicas, done.was, done.steps) == (4, 4, {})
    assert done.opened("r-1", STEP) == done
    assert done.finished("r-1") == done


def test_what_is_taken_back_was_never_there() -> None:
    back = Record(2, 2).opened("r-1", STEP).settled(4).taken_back("r-1")
    assert (back.replicas, back.was, back.done) == (2, 4, ())
    assert back.taken_back("r-1") == back
    assert back.opened("r-1", STEP).replicas == 4, "so it can be asked for anew"


def test_an_instance_leaves_once() -> None:
    left = Record(3, 3).left("i-1")
    assert left.replicas == 2
    assert left.left("i-1") == left
    assert left.left("i-2").replicas == 1
    assert left.gone({"i-1"}).leaving == {}
    assert left.gone({"i-7"}) == left


def test_only_so_many_steps_are_remembered() -> None:
    record = Record(0, 0)
    for number in range(REMEMBERED + 3):
        record = record.opened(f"r-{number}", Open("", 0, 0.0, ())).finished(f"r-{number}")
    assert len(record.done) == REMEMBERED
    assert record.done[-1] == f"r-{REMEMBERED + 2}"


def test_a_number_is_settled_only_by_itself() -> None:
    assert Record(4, 2).settled(3) == Record(4, 2)


def test_a_seat_is_what_of_a_launch_a_pod_must_know() -> None:
    assert seat(launch("i-1", "n1", "n2", group="g", gate=HELD)) == Seat(
        "i-1", ("n1", "n2"), "g", HELD
    )
