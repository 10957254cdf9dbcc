"""What counts the branches of the core, counted itself."""

from __future__ import annotations

import pytest

from tests.branches import told


def file(covered: int, branches: int) -> dict[str, dict[str, int]]:
    return {"summary": {"covered_branches": covered, "num_branches": branches}}


@pytest.mark.parametrize(("covered", "enough"), [(89, False), (90, True)])
def test_branches_of_all_files_count_together(covered: int, enough: bool) -> None:
    report = {"files": {"weak.py": file(covered - 80, 20), "strong.py": file(80, 80)}}
    text, is_enough = told(report, 90)
    assert is_enough is enough
    assert f"{covered} of 100, {covered:.1f} %" in text
    assert "weak.py" in text
    assert "strong.py" not in text


def test_nothing_measured_is_not_enough() -> None:
    assert not told({"files": {}}, 1)[1]
