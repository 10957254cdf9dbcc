"""Decisions as they are asked for by hand: filters, pages, times."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from heteroscale.convert import unix_seconds
from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli.errors import CliError
from heteroscale_cli.moments import moment
from tests.cli import fleet
from tests.cli.conftest import Typed
from tests.cli.twin import OperatorTwin

EAST = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=EAST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26T10:15", datetime(2026, 11, 26, 8, 15, tzinfo=UTC)),
        ("2026-11-26 10:15:30", datetime(2026, 11, 26, 8, 15, 30, tzinfo=UTC)),
        ("2026-11-26T10:15Z", datetime(2026, 11, 26, 10, 15, tzinfo=UTC)),
        ("2026-11-26T10:15-05:00", datetime(2026, 11, 26, 15, 15, tzinfo=UTC)),
        ("2026-11-26", datetime(2026, 11, 25, 22, 0, tzinfo=UTC)),
        ("10:15", datetime(2026, 11, 26, 8, 15, tzinfo=UTC)),
        ("10:15:20", datetime(2026, 11, 26, 8, 15, 20, tzinfo=UTC)),
        ("12:01", datetime(2026, 11, 25, 10, 1, tzinfo=UTC)),
        ("09:00Z", datetime(2026, 11, 26, 9, 0, tzinfo=UTC)),
        ("-10m", datetime(2026, 11, 26, 9, 50, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 26, 8, 0, tzinfo=UTC)),
        ("-1h30m", datetime(2026, 11, 26, 8, 30, tzinfo=UTC)),
        ("now", datetime(2026, 11, 26, 10, 0, tzinfo=UTC)),
    ],
)
def test_a_time_is_typed_in_many_ways(text: str, expected: datetime) -> None:
    assert moment(text, "--at", NOW) == expected.timestamp()


@pytest.mark.parametrize("text", ["yesterday", "25:00", "2026-13-01T10:00", "-", "-10x", "10"])
def test_what_is_no_time_says_how_one_is_typed(text: str) -> None:
    with pytest.raises(CliError, match="--at"):
        moment(text, "--at", NOW)


def asked(twin: OperatorTwin) -> pb.ListDecisionsRequest:
    (found,) = [r for r in twin.requests if isinstance(r, pb.ListDecisionsRequest)]
    return found


def test_filters_are_asked_of_the_coordinator(typed: Typed, twin: OperatorTwin) -> None:
    words = [
        *("get", "decisions", "chat", "--since", "2026-11-26T10:15Z", "--until", "-1m"),
        *("--action", "scale_out", "--action", "repair", "--bound-by", "guard"),
        *("--acted", "--instance", "i-1", "-n", "7"),
    ]
    assert typed(*words).exit_code == 0
    found = asked(twin)
    assert unix_seconds(found.start_time) == datetime(2026, 11, 26, 10, 15, tzinfo=UTC).timestamp()
    assert found.end_time.seconds > 0
    assert list(found.actions) == ["scale_out", "repair"]
    assert (list(found.bound_by), found.instance_id) == (["guard"], "i-1")
    assert (found.only_acted, found.only_advice, found.page_size) == (True, False, 7)
    assert not found.with_arithmetic


def test_for_machines_the_arithmetic_comes_along(typed: Typed, twin: OperatorTwin) -> None:
    twin.decisions[0].sums.add(name="R", formula="Q / S", terms={"Q": 1.0, "S": 3.0}, value=1 / 3)
    answer = json.loads(typed("get", "decisions", "-o", "json", "--advice").stdout)
    assert answer["decisions"][0]["sums"][0]["value"] == 1 / 3
    assert asked(twin).with_arithmetic
    assert asked(twin).only_advice


def test_more_than_a_page_is_fetched_page_by_page(typed: Typed, twin: OperatorTwin) -> None:
    twin.decisions = [fleet.decision(decision_id=f"d-{n}") for n in range(9)]
    twin.largest_page = 4
    answer = json.loads(typed("get", "decisions", "-n", "7", "-o", "json").stdout)
    assert [d["decision_id"] for d in answer["decisions"]] == [f"d-{n}" for n in range(7)]
    sizes = [r.page_size for r in twin.requests if isinstance(r, pb.ListDecisionsRequest)]
    assert sizes == [7, 3]


@pytest.mark.parametrize("words", [("services", "--acted"), ("decisions", "-w", "--since", "1h")])
def test_filters_are_for_lists_of_decisions(typed: Typed, words: tuple[str, ...]) -> None:
    result = typed("get", *words)
    assert result.exit_code == 2
    assert "decisions" in result.stderr


def test_explain_at_a_time_asks_for_it(typed: Typed, twin: OperatorTwin) -> None:
    assert typed("explain", "chat", "--at", "2026-11-26T10:15Z").exit_code == 0
    (found,) = [r for r in twin.requests if isinstance(r, pb.ExplainServiceRequest)]
    assert unix_seconds(found.time) == datetime(2026, 11, 26, 10, 15, tzinfo=UTC).timestamp()
    assert typed("explain", "chat", "--at", "-10m").exit_code == 0
    assert typed("explain", "chat", "--at", "noon").exit_code == 2


def test_lines_keep_their_indentation(typed: Typed, twin: OperatorTwin) -> None:
    twin.explanations["chat"].lines[:] = ["Signals:", "  Q =\t7"]
    assert typed("explain", "chat").stdout == "Signals:\n  Q = 7\n"
