"""Completion as bash asks for it, in a process of its own."""

from __future__ import annotations

import pytest

from tests.cli.conftest import process
from tests.cli.twin import Served


def completed(line: str, **env: str) -> list[str]:
    """Return what bash would offer for the last word of ``line``."""
    words = line.split(" ")
    result = process(
        _HETEROSCALE_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        **env,
    )
    assert "Traceback" not in result.stderr
    return result.stdout.split()


def test_commands_and_kinds_are_completed() -> None:
    assert completed("heteroscale re") == ["resume", "reinstate"]
    assert completed("heteroscale get s") == ["services"]
    assert completed("heteroscale describe i") == ["instance"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("heteroscale get instances aa2", ["aa22cc"]),
        ("heteroscale describe node no", ["node-1", "node-2"]),
        ("heteroscale get decisions c", ["chat"]),
        ("heteroscale pause ", ["chat"]),
        ("heteroscale drain aa", ["aa11bb", "aa22cc"]),
    ],
)
def test_names_come_from_the_coordinator(served: Served, line: str, names: list[str]) -> None:
    assert completed(line, HETEROSCALE_COORDINATOR=served.address) == names


def test_without_a_coordinator_nothing_is_offered(served: Served) -> None:
    served.stop()
    assert completed("heteroscale drain aa", HETEROSCALE_COORDINATOR=served.address) == []
    assert completed("heteroscale drain aa", HETEROSCALE_COORDINATOR="10.9.8.7:1") == []


def test_the_shell_s_script_is_shown() -> None:
    script = process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_HETEROSCALE_COMPLETE=complete_bash" in script.stdout
