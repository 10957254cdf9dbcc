"""One way to log: lines for machines carry the cause; what is below the level is not written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from heteroscale import logs


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the lines on stderr; nothing may be on stdout, which belongs to the answer."""
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_machines_get_a_json_object_for_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger().info("command", action="Drain")
    (line,) = written(capsys)
    assert line["event"] == "command"
    assert line["level"] == "info"
    assert line["action"] == "Drain"
    assert line["timestamp"].endswith("Z")


def test_the_cause_stands_on_every_line_it_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    with structlog.contextvars.bound_contextvars(cause="d-1"):
        structlog.get_logger("a").info("one")
        structlog.get_logger("b").warning("two")
    structlog.get_logger("a").info("three")
    assert [line.get("cause") for line in written(capsys)] == ["d-1", "d-1", None]


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_what_is_below_the_level_is_not_written(
    level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "json")
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert len(written(capsys)) == count


def test_an_error_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        int("none")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = written(capsys)
    assert line["exception"][0]["exc_type"] == "ValueError"


def test_a_terminal_gets_plain_lines_and_a_pipe_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    structlog.get_logger().info("started", agent="a1")
    plain = capsys.readouterr().err
    assert "started" in plain
    with pytest.raises(json.JSONDecodeError):
        json.loads(plain)
    logs.configure("info", "auto")
    structlog.get_logger().info("started", agent="a1")
    assert written(capsys)[0]["agent"] == "a1"
