"""The plant's benchmark: it measures something, and its table says what."""

from __future__ import annotations

import json

import pytest
from benchmarks.plant.__main__ import goal, main, table
from benchmarks.plant.cases import Figures, Size

SMALL = ["--hours", "0.02", "--rate", "20", "--instances", "6"]


def figures(case: str, seconds: float) -> Figures:
    return Figures(case, seconds, 2 * seconds, 80.0, 200.0, 0.99)


def test_a_case_prints_its_figures_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "plant", *SMALL]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["case"] == "plant"
    assert told["seconds"] > 0
    assert told["attainment"] > 0.8


def test_the_table_says_a_day_and_the_ratio_to_the_reference() -> None:
    size = Size(12.0, 2000.0, 200)
    found = [figures("reference", 2.0), figures("plant", 20.0)]
    lines = table(found, size).splitlines()
    assert "67 prefill + 133 decode" in lines[0]
    assert lines[3].split()[:5] == ["plant", "20.0", "40.0", "40.0", "2,160"]
    assert lines[3].split()[5] == "10.0"
    assert goal(found, size).startswith("met")
    assert goal([figures("plant", 31.0)], size).startswith("MISSED")
    assert goal([], size) == ""


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "plant,best"]) == 2
    assert "no case best" in capsys.readouterr().err
