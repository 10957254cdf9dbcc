"""The record of decisions: run-length, capped, and never in the loop's way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from heteroscale_coordinator.core.model import Action
from heteroscale_coordinator.edge.store.decisions import FILE_NAME, KEPT, DecisionLog
from heteroscale_coordinator.edge.store.runs import RunLength
from tests.coordinator.values import NOW, decision

TICK = 5.0


@pytest.fixture(params=["file", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DecisionLog]:
    made = DecisionLog(tmp_path / FILE_NAME if request.param == "file" else None)
    yield made
    made.close()
    assert not made.failing


def hold(log: DecisionLog, count: int, *, start: float = NOW, demand: float = 7000.0) -> None:
    for n in range(count):
        at = start + n * TICK
        log.record([decision(f"d-{at:.0f}", at=at, demand=demand + n)])


def test_equal_holds_are_one_record_with_first_last_count_and_range(log: DecisionLog) -> None:
    hold(log, 10)
    (found,) = log.newest("chat")
    assert (found.decision_id, found.at, found.last_at) == (f"d-{NOW:.0f}", NOW, NOW + 9 * TICK)
    assert found.repeat_count == 10
    assert "7009" in found.reason
    assert found.ranges["decode_demand"] == (7000.0, 7009.0, "tokens/s")
    assert "decode_supply" not in found.ranges
    assert log.latest("chat") == found


def test_a_change_of_any_kind_is_a_record_of_its_own(log: DecisionLog) -> None:
    hold(log, 3)
    later = NOW + 3 * TICK
    log.record([decision("cool", at=later, bound_by="cooldown")])
    log.record([decision("out-1", Action.SCALE_OUT, later + TICK)])
    log.record([decision("out-2", Action.SCALE_OUT, later + 2 * TICK)])
    log.record([replace(decision("words", at=later + 3 * TICK), reason="nothing is known")])
    found = [(d.decision_id, d.repeat_count) for d in log.newest("chat")]
    first = f"d-{NOW:.0f}"
    assert found == [("words", 1), ("out-2", 1), ("out-1", 1), ("cool", 1), (first, 3)]


def test_advice_that_is_not_acted_on_is_run_length_too(log: DecisionLog) -> None:
    for n in range(4):
        advice = decision(f"a-{n}", Action.SCALE_OUT, NOW + n * TICK)
        log.record([replace(advice, advisory=True, instance_ids=())])
    (found,) = log.newest()
    assert (found.decision_id, found.repeat_count) == ("a-0", 4)


def test_a_long_hold_leaves_a_full_record_every_five_minutes(log: DecisionLog) -> None:
    hold(log, 150)
    found = log.newest("chat")
    assert [d.repeat_count for d in found] == [30, 60, 60]
    assert [d.at for d in found] == [NOW + 600, NOW + 300, NOW]


def test_newest_first_by_service_and_limited(log: DecisionLog) -> None:
    for n in range(30):
        log.record([decision(f"c-{n}", Action.SCALE_OUT, NOW + n)])
        log.record([decision(f"o-{n}", Action.SCALE_OUT, NOW + n + 0.5, of="other")])
    assert [d.decision_id for d in log.newest("chat", 3)] == ["c-29", "c-28", "c-27"]
    assert [d.decision_id for d in log.newest(limit=3)] == ["o-29", "c-29", "o-28"]
    assert log.newest("nobody") == []


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / FILE_NAME)
    hold(log, 7)
    log.close()
    again = DecisionLog(tmp_path / FILE_NAME)
    latest = again.latest("chat")
    assert latest is not None
    assert latest.repeat_count == 7
    assert again.newest("chat") == [latest]
    again.close()


def test_a_hold_is_not_written_each_time(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / FILE_NAME)
    hold(log, 60)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        (count,) = file.execute("SELECT document ->> '$.repeat_count' FROM decisions").fetchone()
    assert count == 49  # the last write was 60 s after the one before, and holds are 5 s apart
    log.close()


def test_an_ended_run_is_written_with_its_last_count(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / FILE_NAME)
    hold(log, 5)
    log.record([decision("out", Action.SCALE_OUT, NOW + 25)])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        query = "SELECT document ->> '$.repeat_count' FROM decisions ORDER BY sequence"
        assert file.execute(query).fetchall() == [(5,), (1,)]
    log.close()


def test_the_file_stays_below_its_cap_and_keeps_the_newest(tmp_path: Path) -> None:
    cap = 512 * 1024
    log = DecisionLog(tmp_path / FILE_NAME, max_bytes=cap)
    for n in range(0, 5000, 50):
        log.record([decision(f"d-{k}", Action.SCALE_OUT, NOW + k) for k in range(n, n + 50)])
    assert not log.failing
    assert log.newest(limit=1)[0].decision_id == "d-4999"
    assert 100 < len(log.newest(limit=5000)) < 2000
    log.close()
    assert (tmp_path / FILE_NAME).stat().st_size <= cap


def test_a_failing_disk_is_said_once_and_stops_nobody(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / FILE_NAME)
    file = log._file
    assert file is not None

    def broken(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))

    sa.event.listen(file.engine, "begin", broken)
    with capture_logs() as said:
        for n in range(KEPT + 500):
            log.record([decision(f"d-{n}", Action.SCALE_OUT, NOW + n)])
    assert [entry["event"] for entry in said] == ["decisions_failing"]
    assert "disk I/O error" in log.failing
    assert [d.decision_id for d in log.newest("chat", 2)] == [f"d-{KEPT + 499}", f"d-{KEPT + 498}"]
    sa.event.remove(file.engine, "begin", broken)
    log.record([decision("healed", Action.SCALE_OUT, NOW + 9999)])
    assert not log.failing
    assert len(log.newest("chat", 5000)) == KEPT  # what had waited is written too
    log.close()


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"junk" * 4000)
    with capture_logs() as said:
        log = DecisionLog(path)
    assert [entry["event"] for entry in said] == ["decisions_moved_aside"]
    log.record([decision()])
    assert log.newest()
    log.close()
    assert (tmp_path / f"{FILE_NAME}.damaged").exists()


def test_a_place_that_cannot_be_written_leaves_a_log_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = DecisionLog(tmp_path / "file" / FILE_NAME)
    assert log.failing
    log.record([decision()])
    assert log.newest() == [decision()]
    log.close()


def test_a_seeded_fold_goes_on_where_the_seed_stopped() -> None:
    seed = replace(decision("d-1"), repeat_count=4, last_at=NOW + 15)
    found = RunLength([seed]).fold(decision("d-9", at=NOW + 20))
    assert (found.decision_id, found.repeat_count, found.last_at) == ("d-1", 5, NOW + 20)


def test_more_services_than_memory_keeps_lose_no_decision(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    log = DecisionLog(path)
    log.record([decision(f"d-{n}", Action.SCALE_OUT, of=f"s-{n}") for n in range(KEPT)])
    log.record([decision("last", Action.SCALE_OUT, NOW + TICK, of="one-more")])
    log.close()
    log = DecisionLog(path)
    assert [d.decision_id for d in log.newest("one-more")] == ["last"]
    assert [d.decision_id for d in log.newest("s-0")] == ["d-0"]
    log.close()
