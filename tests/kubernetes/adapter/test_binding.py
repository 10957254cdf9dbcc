from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.binding import (
    HELD,
    Binding,
    bindings,
    doubles,
    muster,
    nodes_of,
    units,
)
from heteroscale_scheduler_adapters.kubernetes.record import Open, Record, Seat
from tests.kubernetes.adapter.things import Json, bound, pod


def _record(*seats: str, request: str = "r-1", until: float = 60.0) -> Record:
    step = Open("d-1", len(seats), until, tuple(Seat(one) for one in seats))
    return Record(9, 9, {request: step})


def _told(found: list[Binding]) -> list[tuple[str, str]]:
    return [(one.unit.key, one.seat.instance if one.seat else "adopted") for one in found]


def _group(number: int, worker: int, **more: object) -> Json:
    labels = {names.LWS_NAME: "c", names.LWS_GROUP: str(number), names.LWS_WORKER: str(worker)}
    return pod(f"c-{number}-{worker}", labels=labels, notes={names.LWS_SIZE: "2"}, **more)


def test_the_oldest_free_pod_gets_the_first_seat() -> None:
    there = units([pod("b", made="2026-01-02T00:00:00Z"), pod("a"), bound("c", "i-0", "r-0")])
    assert _told(bindings(_record("i-1", "i-2"), there)) == [("a", "i-1"), ("b", "i-2")]


def test_a_seat_that_is_taken_is_not_given_again() -> None:
    there = units([bound("a", "i-1"), pod("b")])
    assert _told(bindings(_record("i-1", "i-2"), there)) == [("b", "i-2")]


def test_what_comes_beyond_the_seats_is_adopted_after_them() -> None:
    there = units([pod("a"), pod("b")])
    assert _told(bindings(_record("i-1"), there)) == [("a", "i-1"), ("b", "adopted")]
    assert _told(bindings(Record(2, 2), there)) == [("a", "adopted"), ("b", "adopted")]


def test_pods_that_are_over_or_end_get_no_seat() -> None:
    assert units([pod("a", gone=True), pod("b", phase="Failed")]) == []


def test_a_group_waits_until_all_its_pods_are_there() -> None:
    half = units([_group(0, 0)])
    assert bindings(_record("i-1"), half) == []
    whole = units([_group(0, 1), _group(0, 0)])
    (one,) = bindings(_record("i-1"), whole)
    assert [each["metadata"]["name"] for each in one.unit.pods] == ["c-0-0", "c-0-1"]


def test_a_group_bound_by_half_is_bound_to_its_end() -> None:
    first = _group(0, 0)
    first["metadata"]["labels"][names.INSTANCE] = "i-1"
    (one,) = bindings(_record("i-1", "i-2"), units([first, _group(0, 1)]))
    assert one.seat == Seat("i-1")


def test_the_step_whose_time_is_over_first_is_served_first() -> None:
    both = _record("i-1", request="r-1", until=90.0).steps
    record = Record(2, 2, {**both, **_record("i-2", request="r-2", until=30.0).steps})
    assert _told(bindings(record, units([pod("a")]))) == [("a", "i-2")]


def test_of_two_pods_of_one_instance_the_waiting_one_is_made_free() -> None:
    there = units([bound("a", "i-1", gated=True), bound("b", "i-1")])
    assert [one.key for one in doubles(there)] == ["a"]
    assert doubles(units([bound("a", "i-1"), bound("b", "i-1")])) == []


def test_a_step_is_whole_when_all_its_pods_are_there() -> None:
    two = [bound("a", "i-1", size=2, gated=True), bound("b", "i-2", size=2, gated=True)]
    assert not muster("r-1", two[:1]).whole
    assert muster("r-1", two).whole
    assert not muster("r-1", [two[0], two[0]]).whole, "the same rank twice is one"
    assert not muster("r-2", two).whole, "another's step"
    assert not muster("r-2", []).whole


def test_what_has_been_let_go_by_half_is_let_go_to_its_end() -> None:
    free = bound("a", "i-1", size=3, notes={HELD: "true"})
    assert muster("r-1", [free, bound("b", "i-2", size=3, gated=True)]).committed
    never = bound("a", "i-1", size=3)
    assert not muster("r-1", [never]).committed, "a pod that never waited tells nothing"


def test_placements_nodes_are_by_rank() -> None:
    seat = Seat("i-1", ("n1", "n2"))
    assert [nodes_of(seat, rank) for rank in range(3)] == ["n1", "n2", ""]
