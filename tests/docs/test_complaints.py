"""The page of complaints names nine of them, and tests that are there."""

from __future__ import annotations

import re

from tests.docs import reference

ROOT = reference.DOCS.parent
PAGE = (reference.DOCS / "complaints.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Return the cells of each complaint: what they say, what is here, which tests."""
    lines = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_there_are_nine_each_with_its_reports_an_answer_and_tests() -> None:
    assert [int(row[0].split(".")[0]) for row in rows()] == list(range(1, 10))
    for said, here, shown in rows():
        assert re.search(r"\[#\d+\]\(https://github\.com/", said), said
        assert here
        assert "`tests/" in shown, said


def test_every_test_it_names_is_there() -> None:
    named = [name for row in rows() for name in re.findall(r"`(tests/[^`]+)`", row[2])]
    assert len(named) > 9
    gone = [name for name in named if not _is_there(name)]
    assert not gone, f"docs/complaints.md names tests that are gone: {gone}"


def _is_there(name: str) -> bool:
    file, _, test = name.partition("::")
    path = ROOT / file
    return path.is_file() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))


def test_every_script_is_named() -> None:
    scripts = sorted((ROOT / "tests/core/complaints").glob("*.txt"))
    assert scripts
    assert [s.name for s in scripts if f"`tests/core/complaints/{s.name}`" not in PAGE] == []
