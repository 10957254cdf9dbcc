"""The small texts of tables."""

from __future__ import annotations

import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from heteroscale.convert import timestamp
from heteroscale.v1 import types_pb2 as types
from heteroscale_cli import text
from heteroscale_cli.connection import seconds
from heteroscale_cli.errors import CliError
from heteroscale_cli.output import Table
from tests.cli import fleet


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m0s"),
        (192, "3m12s"),
        (3600, "1h0m"),
        (18_600, "5h10m"),
        (273_600, "3d4h"),
        (None, "?"),
        (math.nan, "?"),
        (math.inf, "?"),
    ],
)
def test_age(seconds: float | None, words: str) -> None:
    assert text.age(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (17.0, "17"), (0.421, "0.421"), (3.14159, "3.14"), (1834.2, "1834"), (99.96, "100")],
)
def test_number(value: float, words: str) -> None:
    assert text.number(value) == words


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_unknown(value: float | None) -> None:
    assert text.number(value) == "?"


def test_an_unset_time_is_unknown() -> None:
    assert text.since(Timestamp(), 1_700_000_000) == "?"
    assert text.clock(Timestamp()) == "?"
    assert text.since(timestamp(1_700_000_000), 1_700_000_060) == "1m0s"


def test_a_ratio_without_decode_in_service_is_unknown() -> None:
    service = fleet.service()
    assert text.ratio(service) == "0.67"
    service.roles[1].in_service = 0
    assert text.ratio(service) == "?"
    del service.roles[:]
    assert text.ratio(service) == "-"


def test_a_split_prefill_is_told_by_its_parts() -> None:
    service = fleet.service(inner_ratio=2.0)
    service.roles[0].role = types.ROLE_ATTENTION
    assert text.prefill(service) == "-"
    service.roles.add(role=types.ROLE_FFN, wanted=1, in_service=1)
    assert text.prefill(service) == "2/2+1/1"
    assert text.ratio(service) == "0.67, 2.00"
    service.roles[2].in_service = 0
    assert text.ratio(service) == "0.67, ?"
    step = fleet.decision(prefill_delta=0, attention_delta=2, ffn_delta=1, decode_delta=4)
    assert text.step(step) == "+2A +1F +4D"


def test_mode_names_everything_that_holds_commands_back() -> None:
    assert text.mode(fleet.service()) == "auto"
    assert text.mode(fleet.service(external=True)) == "external"
    assert text.mode(fleet.service(external=True, paused=True)) == "paused"
    assert text.mode(fleet.service(paused=True, advisory=True)) == "paused,advisory"


def test_a_reason_stands_beside_withdrawn_only() -> None:
    reason = types.WITHDRAW_REASON_OPERATOR
    instance = fleet.instance(state=types.INSTANCE_STATE_WITHDRAWN, withdraw_reason=reason)
    assert text.state(instance) == "withdrawn (operator)"
    instance.state = types.INSTANCE_STATE_IN_SERVICE
    assert text.state(instance) == "in_service"


def test_steps() -> None:
    assert text.step(fleet.decision()) == "+1P +2D"
    assert text.step(fleet.decision(prefill_delta=-1, decode_delta=0)) == "-1P"
    assert text.step(fleet.decision(prefill_delta=0, decode_delta=0)) == "-"


def test_a_table_keeps_its_widths_when_rows_follow() -> None:
    table = Table(["A", "B"])
    assert table.lines([["long", "x"]]) == ["A      B", "long   x"]
    assert table.lines([["s", "y"]]) == ["s      y"]


@pytest.mark.parametrize(
    ("words", "value"), [("10", 10), ("10s", 10), ("1m30s", 90), ("250ms", 0.25), ("0.5s", 0.5)]
)
def test_durations_of_options(words: str, value: float) -> None:
    assert seconds(words, "--timeout") == value


@pytest.mark.parametrize("words", ["", "soon", "-1", "0", "10 s 5", "nan", "inf"])
def test_durations_that_are_none(words: str) -> None:
    with pytest.raises(CliError, match="--timeout"):
        seconds(words, "--timeout")
