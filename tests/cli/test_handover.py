"""The entry point: who gets the line, what is loaded for it, and what a small install says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from heteroscale_cli import handover
from heteroscale_cli.app import app
from tests.cli.conftest import clean_environment, process

PLUGIN = """\
import sys

def run(argv):
    held = sorted({"typer", "rich", "grpc", "google"} & set(sys.modules))
    print("argv", argv, "held", held)
    return len(argv)
"""
BROKEN = "import a_library_that_is_not_there\n"


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    """Install a distribution with three programs the way a wheel does: a folder of metadata."""
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[heteroscale.commands]\n"
        "probe = plugged_probe:run\n"
        "broken = plugged_broken:run\n"
        "apply = plugged_probe:run\n"
    )
    (tmp_path / "plugged_probe.py").write_text(PLUGIN)
    (tmp_path / "plugged_broken.py").write_text(BROKEN)
    return str(tmp_path)


def heteroscale(*words: str, plugins: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the entry function in a process of its own, after ``before``."""
    code = f"{before}\nimport sys\nfrom heteroscale_cli.__main__ import main\nsys.exit(main())"
    environment = clean_environment()
    environment["PYTHONPATH"] += f":{plugins}"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_gets_the_rest_of_the_line_before_anything_is_loaded(plugins: str) -> None:
    result = heteroscale("probe", "--flag", "get", "-o", plugins=plugins)
    assert result.stdout == "argv ['--flag', 'get', '-o'] held []\n"
    assert result.returncode == 3, "the program's own exit code"


def test_programs_are_in_the_help_and_named_by_their_distribution(plugins: str) -> None:
    text = heteroscale("--help", plugins=plugins).stdout
    assert "probe        Provided by plugged." in text
    assert "Create or change services from YAML." in text, "apply is ours"


def test_our_own_commands_cannot_be_taken_over(plugins: str) -> None:
    result = heteroscale("apply", plugins=plugins)
    assert result.returncode == 2
    assert "argv" not in result.stdout


def test_a_program_that_lacks_a_library_says_so_in_one_line(plugins: str) -> None:
    result = heteroscale("broken", plugins=plugins)
    assert result.returncode == 1
    assert result.stderr == (
        "error: `heteroscale broken` needs a_library_that_is_not_there: pip install 'heteroscale'\n"
    )


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        (
            "heteroscale_coordinator.__main__",
            "needs sqlalchemy: pip install 'heteroscale[coordinator]'",
        ),
        ("heteroscale_workbench.demo", "needs sqlalchemy: pip install 'heteroscale[workbench]'"),
        ("heteroscale_agent.__main__", "needs sqlalchemy: pip install 'heteroscale'"),
    ],
)
def test_a_missing_extra_is_named(module: str, hint: str) -> None:
    error = ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")
    assert handover.missing("x", module, error) == f"error: `heteroscale x` {hint}"


def test_a_part_of_ours_that_is_missing_is_no_library_to_install() -> None:
    error = ModuleNotFoundError("", name="heteroscale_workbench")
    line = handover.missing("demo", "heteroscale_workbench.demo", error)
    assert line == (
        "error: `heteroscale demo` is not part of this installation (heteroscale_workbench)"
    )


@pytest.mark.parametrize(("words", "code"), [(("--help",), 0), ((), 0), (("get", "svc"), 1)])
def test_without_the_cli_extra_the_programs_still_run(
    plugins: str, words: tuple[str, ...], code: int
) -> None:
    bare = "import sys; sys.modules['typer'] = None"
    result = heteroscale(*words, plugins=plugins, before=bare)
    assert result.returncode == code
    assert "pip install 'heteroscale[cli]'" in result.stdout + result.stderr
    assert "heteroscale probe" in result.stdout + result.stderr
    assert heteroscale("probe", plugins=plugins, before=bare).stdout.startswith("argv []")


def test_options_before_a_program_are_not_swallowed(plugins: str) -> None:
    environment_free = heteroscale("--", "probe", "x", plugins=plugins)
    assert environment_free.returncode == 2
    assert "`probe` comes first: heteroscale probe …" in environment_free.stderr


def test_help_loads_no_grpc_and_no_rich() -> None:
    heavy = {"grpc", "rich", "google.protobuf", "heteroscale.documents", "yaml"}
    code = (
        "import sys\nfrom heteroscale_cli.__main__ import main\n"
        "try:\n    main(['get', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_list_of_our_own_commands_is_right() -> None:
    mine = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert mine - set(handover.programs()) == handover.OWN_COMMANDS


def test_version_and_no_arguments() -> None:
    assert process("version").stdout == process("--version").stdout
    assert process("version").stdout.startswith("heteroscale ")
    bare = process()
    assert "Usage: heteroscale" in bare.stdout + bare.stderr


@pytest.mark.parametrize(
    "words", [("gett",), ("get", "svc", "--nope"), ("get", "svc", "-o", "xml")]
)
def test_wrong_usage_is_exit_2_and_names_the_word(words: tuple[str, ...]) -> None:
    result = process(*words)
    assert result.returncode == 2
    assert words[-1] in result.stderr
