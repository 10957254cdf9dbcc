"""What of the record of decisions can be asked, alike from file and memory; old files; what is cut."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heteroscale_coordinator.core.model import Action, Decision, Range, SignalValue
from heteroscale_coordinator.core.sums import reckon
from heteroscale_coordinator.edge.store.codec import encode
from heteroscale_coordinator.edge.store.decisions import FILE_NAME, DecisionLog
from heteroscale_coordinator.edge.store.fit import MAX_SUMS, MAX_TEXT, fit
from heteroscale_coordinator.edge.store.query import DecisionQuery, PageError
from tests.coordinator.values import NOW, decision


@pytest.fixture(params=["file", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DecisionLog]:
    made = DecisionLog(tmp_path / FILE_NAME if request.param == "file" else None)
    yield made
    made.close()


def ids(log: DecisionLog, query: DecisionQuery) -> list[str]:
    return [d.decision_id for d in log.select(query).decisions]


def story() -> list[Decision]:
    """Ten minutes: an action, holds, a cooldown, advice, an action of another service."""
    out = replace(decision("out", Action.SCALE_OUT, NOW), instance_ids=("i-10", "i-2"))
    advice = replace(decision("advice", Action.SCALE_OUT, NOW + 300), advisory=True)
    return [
        out,
        *(decision(f"hold-{n}", at=NOW + 10 + 5 * n) for n in range(4)),
        decision("cool", at=NOW + 100, bound_by="cooldown"),
        replace(advice, instance_ids=()),
        replace(decision("quiet", at=NOW + 400), advisory=True),
        decision("other", Action.SCALE_IN, NOW + 500, of="other"),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (DecisionQuery(), ["other", "quiet", "advice", "cool", "hold-0", "out"]),
        (DecisionQuery("chat", 2), ["quiet", "advice"]),
        (DecisionQuery(since=NOW + 25, until=NOW + 300), ["cool", "hold-0"]),
        (DecisionQuery(since=NOW + 26), ["other", "quiet", "advice", "cool"]),
        (DecisionQuery(actions=("scale_out", "scale_in")), ["other", "advice", "out"]),
        (DecisionQuery(bound_by=("cooldown",)), ["cool"]),
        (DecisionQuery(only="acted"), ["other", "out"]),
        (DecisionQuery(only="advice"), ["advice"]),
        (DecisionQuery(instance="i-1"), ["other", "out"]),
        (DecisionQuery(instance="i-10"), ["out"]),
        (DecisionQuery(instance="10"), []),
    ],
)
def test_the_record_is_narrowed(
    log: DecisionLog, query: DecisionQuery, expected: list[str]
) -> None:
    log.record(story())
    assert ids(log, query) == expected


def test_pages_follow_each_other_and_miss_nothing(log: DecisionLog) -> None:
    log.record(story())
    seen, query = list[str](), DecisionQuery("chat", 2)
    while True:
        page = log.select(query)
        seen += [d.decision_id for d in page.decisions]
        # What is decided meanwhile moves no page.
        log.record([decision(f"new-{len(seen)}", Action.SCALE_OUT, NOW + 1000 + len(seen))])
        if not page.next_after:
            break
        query = replace(query, after=page.next_after)
    assert seen == ["quiet", "advice", "cool", "hold-0", "out"]


def test_a_page_that_begins_nowhere_says_so(log: DecisionLog) -> None:
    log.record(story())
    with pytest.raises(PageError, match="'gone' is no longer kept"):
        log.select(DecisionQuery(after="gone"))


def test_the_decision_of_a_time_is_the_newest_that_had_begun(log: DecisionLog) -> None:
    log.record(story())

    def at(seconds: float) -> str | None:
        found = log.at("chat", NOW + seconds)
        return found.decision_id if found else None

    moments = (-0.1, 0.0, 9.9, 10.0, 99.0, 100.0, 10**6)
    assert [at(t) for t in moments] == [None, "out", "out", "hold-0", "hold-0", "cool", "quiet"]
    oldest = log.oldest("chat")
    assert oldest is not None
    assert oldest.decision_id == "out"
    assert log.at("nobody", NOW) is None
    assert log.oldest("nobody") is None


names = st.sampled_from(("chat", "other"))
one = st.builds(
    lambda of, action, bound, advisory, gap, who: (of, action, bound, advisory, gap, who),
    names,
    st.sampled_from(list(Action)),
    st.sampled_from(("demand", "cooldown", "guard")),
    st.booleans(),
    st.sampled_from((0.0, 1.0, 200.0)),
    st.sampled_from(((), ("i-1",), ("i-2", "i-10"))),
)
queries = st.builds(
    DecisionQuery,
    service=st.sampled_from(("", "chat")),
    limit=st.integers(1, 8),
    since=st.none() | st.floats(NOW, NOW + 900),
    until=st.none() | st.floats(NOW, NOW + 900),
    actions=st.sampled_from(((), ("hold",), ("scale_out", "repair"))),
    bound_by=st.sampled_from(((), ("guard", "demand"))),
    only=st.sampled_from(("", "acted", "advice")),
    instance=st.sampled_from(("", "i-1", "i-10")),
)


def hold_of(service: str) -> tuple[str, Action, str, bool, float, tuple[str, ...]]:
    return (service, Action.HOLD, "demand", False, 0.0, ())


@given(st.lists(one, max_size=12), queries)
@example([hold_of("chat"), hold_of("other"), hold_of("chat")], DecisionQuery(limit=1))
@settings(max_examples=60)
def test_file_and_memory_answer_alike(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, Action, str, bool, float, tuple[str, ...]]],
    query: DecisionQuery,
) -> None:
    path = tmp_path_factory.mktemp("record") / FILE_NAME
    logs = [DecisionLog(path), DecisionLog(None)]
    at = NOW
    for n, (of, action, bound, advisory, gap, who) in enumerate(rows):
        at += gap
        made = decision(f"d-{n}", action, at, of=of, bound_by=bound)
        for log in logs:
            log.record([replace(made, advisory=advisory, instance_ids=who)])
    file, memory = (log.select(query) for log in logs)
    assert file == memory
    assert all(query.matches(d) for d in file.decisions)
    for log in logs:
        log.close()


def version_1(path: Path, decisions: list[Decision]) -> None:
    """Write a file as the version before this one did."""
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TABLE decisions (sequence INTEGER NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " service TEXT NOT NULL, document JSON NOT NULL)"
        )
        file.execute("CREATE INDEX by_service ON decisions (service, sequence)")
        for made in decisions:
            document = {k: v for k, v in encode(made).items() if k not in ("sums", "ranges")}
            row = (made.decision_id, made.service, json.dumps(document))
            file.execute("INSERT INTO decisions (id, service, document) VALUES (?, ?, ?)", row)
        file.execute("PRAGMA user_version = 1")
        file.commit()


def test_a_file_of_the_version_before_is_read_and_narrowed(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    out, *_, quiet, other = story()
    version_1(path, [out, quiet, other])
    log = DecisionLog(path)
    assert ids(log, DecisionQuery()) == ["other", "quiet", "out"]
    assert ids(log, DecisionQuery(only="acted", until=NOW + 1)) == ["out"]
    assert ids(log, DecisionQuery(instance="i-2")) == ["out"]
    assert log.at("chat", NOW + 450) == quiet
    log.record([decision("next", Action.SCALE_OUT, NOW + 600)])
    log.close()
    assert not log.failing
    assert not list(tmp_path.glob("*.damaged"))
    again = DecisionLog(path)
    assert ids(again, DecisionQuery(limit=2)) == ["next", "other"]
    again.close()


def test_a_full_file_of_the_version_before_gives_up_its_oldest(tmp_path: Path) -> None:
    path, cap = tmp_path / FILE_NAME, 256 * 1024
    kept = [
        replace(decision(f"d-{n}", Action.SCALE_OUT, NOW + n), inputs={"words": "x" * 700})
        for n in range(190)
    ]
    version_1(path, kept)
    assert path.stat().st_size > 0.8 * cap
    log = DecisionLog(path, max_bytes=cap)
    assert not log.failing
    found = ids(log, DecisionQuery(limit=1000))
    assert found[0] == "d-189"
    assert 100 < len(found) < 190
    log.close()


def test_a_file_of_a_newer_version_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")
        file.commit()
    log = DecisionLog(path)
    assert not log.failing
    assert (tmp_path / f"{FILE_NAME}.damaged").exists()
    log.close()


def test_arithmetic_is_kept_to_the_last_bit(log: DecisionLog) -> None:
    line = reckon("a / b", "tok/s", "why", a=1 / 3, b=0.1 + 0.2)
    log.record([replace(decision(), sums={"R": line})])
    (found,) = log.select(DecisionQuery()).decisions
    assert found.sums == {"R": line}
    assert found.sums["R"].value.hex() == line.value.hex()


def test_the_range_of_what_was_reckoned_is_kept(log: DecisionLog) -> None:
    for n in (5, 3, 4):
        line = reckon("n * 2", "tok/s", n=n)
        log.record([replace(decision(f"d-{n}", at=NOW + n), sums={"needed": line})])
    (found,) = log.select(DecisionQuery()).decisions
    assert found.repeat_count == 3
    assert found.ranges["needed"] == Range(6, 10, "tok/s")
    assert found.sums["needed"].value == 8


def test_what_is_too_much_is_cut_with_a_word(log: DecisionLog) -> None:
    lines = {f"line_{n}": reckon("n", n=n) for n in range(500)}
    lines["odd"] = reckon("n", n=math.inf)
    huge = replace(
        decision(),
        sums=lines,
        reason="x" * 10 * MAX_TEXT,
        instance_ids=tuple(f"i-{n}" for n in range(5000)),
        signals=(SignalValue("q", math.nan, "tok/s", "ok"),),
    )
    log.record([huge])
    assert not log.failing
    (found,) = log.select(DecisionQuery()).decisions
    assert len(found.sums) == MAX_SUMS
    assert f"{MAX_SUMS} of 500 lines of arithmetic are kept" in found.inputs["cut"]
    assert "not finite: odd" in found.inputs["cut"]
    assert "1000 of 5000 instances are kept" in found.inputs["cut"]
    assert len(found.reason) < 2 * MAX_TEXT
    assert found.signals[0].value is None


def test_what_fits_is_not_touched() -> None:
    assert fit(decision()) == decision()
    assert "cut" not in fit(decision()).inputs
