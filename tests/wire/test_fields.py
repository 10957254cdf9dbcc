"""Durations: as people write them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.documents import DocumentModel, Duration, format_duration, parse_duration
from heteroscale.documents.fields import MAX_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("300s", 300.0), ("1m30s", 90.0), ("250ms", 0.25), ("1h", 3600.0), ("2d", 172_800.0)),
        *(
            ("1.5h", 5400.0),
            (" 5s ", 5.0),
            ("0s", 0.0),
            (7, 7.0),
            (0.5, 0.5),
            ("1d2h3m4s5ms", 93784.005),
        ),
    ],
)
def test_durations_are_read_as_kubernetes_users_write_them(
    text: str | float, seconds: float
) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "s", "5", "5 s", "5s 3s", "-5s", "5S", "1e3s", "five", "5min", "1m30", "٣s"),
        *(True, None, [], -1, -0.5, float("nan"), float("inf"), 10**400, "9" * 400 + "s", "36501d"),
    ],
)
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(wrong)


@given(st.floats(0, MAX_SECONDS))
def test_a_duration_survives_being_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, int(MAX_SECONDS) * 1000).map(lambda ms: ms / 1000))
def test_round_durations_are_written_shortly(seconds: float) -> None:
    assert len(format_duration(seconds)) <= 15


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (90, "90s"),
        (120, "2m"),
        (3600, "1h"),
        (0.25, "250ms"),
        (1.5, "1.5s"),
        (1e-7, "0.0000001s"),
    ],
)
def test_the_shortest_exact_form_is_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


class Sample(DocumentModel):
    report_interval: Duration = 5.0


def test_models_are_frozen_strict_and_in_camel_case() -> None:
    sample = Sample.model_validate({"reportInterval": "250ms"})
    assert sample == Sample(report_interval=0.25)
    assert sample.document() == {"reportInterval": "250ms"}
    assert Sample().document() == {}
    with pytest.raises(ValueError, match="frozen"):
        sample.report_interval = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra"):
        Sample.model_validate({"report": 1})


def test_the_schema_says_how_a_duration_is_written() -> None:
    field = Sample.model_json_schema()["properties"]["reportInterval"]
    assert field["type"] == ["string", "number"]
    assert field["pattern"].startswith("^(")
