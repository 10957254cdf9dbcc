"""Retries that hide failures, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from heteroscale_workbench.load import (
    Arrival,
    FailureKind,
    LoadOptions,
    LoadRun,
)
from heteroscale_workbench.load.__main__ import arrivals_of, parser, run
from heteroscale_workbench.router import free_port
from heteroscale_workbench.seen import SeenReader, SeenWriter
from tests.workbench.load.answers import (
    PLAIN,
    STREAM,
    answering,
    saying,
)

# ---- retries -------------------------------------------------------------------------------


def test_an_id_that_reaches_one_role_twice_was_retried_two_roles_are_normal(tmp_path: Path) -> None:
    prefill = SeenWriter(tmp_path, "prefill", 1)
    one, two = SeenWriter(tmp_path, "decode", 2), SeenWriter(tmp_path, "decode", 3)
    reader = SeenReader(tmp_path)
    for writer in (prefill, one):
        writer.add("a-1")
    assert reader.refresh() == []
    two.add("a-1")
    assert reader.refresh() == ["a-1"]
    assert reader.tries("a-1") == 2
    one.add("a-1")
    assert reader.refresh() == []  # told once
    assert reader.tries("a-1") == 3
    assert reader.tries("never") == 0
    for writer in (prefill, one, two):
        writer.close()


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "decode-1-1.ids"
    path.write_bytes(b"x\nx")
    reader = SeenReader(tmp_path)
    assert reader.refresh() == []
    path.write_bytes(b"x\nx\n")
    assert reader.refresh() == ["x"]


def test_odd_ids_stay_one_line(tmp_path: Path) -> None:
    writer = SeenWriter(tmp_path, "decode", 1)
    writer.add("a b\nc" + "é" * 200)
    writer.close()
    reader = SeenReader(tmp_path)
    reader.refresh()
    assert reader.tries("a b\nc" + "é" * 200) == 1


async def test_a_retry_is_a_failure_even_when_the_answer_was_perfect(tmp_path: Path) -> None:
    async def twice(request: web.Request) -> web.StreamResponse:
        for port in (1, 2):
            writer = SeenWriter(tmp_path, "decode", port)
            writer.add(request.headers["X-Request-Id"])
            writer.close()
        return web.Response(body=STREAM)

    async with answering(twice) as url:
        options = LoadOptions(seen_dir=tmp_path)
        report = await LoadRun(url, [Arrival(0, 5, 3)], options).run()
    assert (report.passed, report.failed_requests, report.retried_requests) == (1, 0, 1)
    assert report.unseen == 0
    assert not report.clean
    assert report.failures[0].kind is FailureKind.RETRIED


async def test_passed_requests_that_no_engine_noted_are_said(tmp_path: Path) -> None:
    async with answering(saying(STREAM)) as url:
        options = LoadOptions(seen_dir=tmp_path)
        report = await LoadRun(url, [Arrival(0, 5, 3)], options).run()
    assert report.unseen == 1


# ---- the command line ----------------------------------------------------------------------


def test_the_command_line_makes_every_shape_and_plays_traces(tmp_path: Path) -> None:
    def made(*words: str) -> list[Arrival]:
        return arrivals_of(parser().parse_args(["--url", "http://x", *words]))

    assert made("--rate", "5", "--duration", "10", "--seed", "1")
    assert made("--shape", "ramp", "--rate", "1:9", "--duration", "10")
    assert made("--shape", "humps", "--rate", "1", "--hump", "5:20:4", "--duration", "10")
    assert made("--shape", "diurnal", "--rate", "30", "--duration", "10")
    path = tmp_path / "trace.csv"
    path.write_text(PLAIN)
    assert made("--trace", str(path), "--time-scale", "7", "--max-tokens", "30") == [
        (0.0, 374, 30),
        (0.5, 10, 20),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--shape", "ramp", "--rate", "1"],
        ["--rate", "fast"],
        ["--trace", "nowhere.csv"],
        ["--rate", "0"],
    ],
)
def test_a_load_that_cannot_be_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", "http://127.0.0.1:1", *words]) == 2
    assert capsys.readouterr().err.startswith("load: ")


def test_the_exit_status_says_whether_all_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,input_tokens,output_tokens\n0,1,1\n")
    url = f"http://127.0.0.1:{free_port()}"
    out = tmp_path / "out.json"
    assert run(["--url", url, "--trace", str(path), "--json", str(out)]) == 1
    assert "refused" in capsys.readouterr().out
    assert '"failed_requests": 1' in out.read_text()
