"""Log lines: JSON off a terminal, the cause in each, secrets in none."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from heteroscale.logs import caused_by, configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_off_a_terminal_lines_are_json_with_level_logger_and_time() -> None:
    out = io.StringIO()
    configure(stream=out)
    structlog.get_logger("heteroscale.x").info("committed", instances=3, what={1, 2})
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("committed", "info", "heteroscale.x")
    assert line["instances"] == 3
    assert line["timestamp"].endswith("Z")


def test_records_of_libraries_take_the_same_way() -> None:
    out = io.StringIO()
    configure(stream=out)
    logging.getLogger("grpc").warning("odd %s", "frame")
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    assert [line["event"] for line in lines(out)] == ["odd frame"]


def test_the_level_holds() -> None:
    out = io.StringIO()
    configure("warning", "json", out)
    log = structlog.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


async def test_the_cause_goes_along_into_tasks_and_ends_with_its_block() -> None:
    out = io.StringIO()
    configure(stream=out)
    log = structlog.get_logger("x")

    async def work() -> None:
        await asyncio.sleep(0)
        log.info("inside")

    with caused_by("dec-1"):
        await asyncio.create_task(work())
    log.info("outside")
    assert [line.get("cause") for line in lines(out)] == ["dec-1", None]


def test_secrets_and_tracebacks() -> None:
    out = io.StringIO()
    configure(stream=out)
    log = structlog.get_logger("x")
    log.info("dialled", password="p1", api_token="t2", prompt_tokens=5)  # noqa: S106
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("failed")
    assert "p1" not in out.getvalue()
    assert "t2" not in out.getvalue()
    assert lines(out)[0]["prompt_tokens"] == 5
    assert lines(out)[1]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_on_request_lines_are_for_a_person() -> None:
    out = io.StringIO()
    configure(style="console", stream=out)
    structlog.get_logger("x").info("hello", n=1)
    assert "hello" in out.getvalue()
    assert "n=1" in out.getvalue()
    assert not out.getvalue().startswith("{")
