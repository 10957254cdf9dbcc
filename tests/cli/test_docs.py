"""docs/cli.md says what the commands say, and docs/placement.md what plans do."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from heteroscale_cli import handover
from heteroscale_cli.app import app
from heteroscale_cli.errors import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE
from heteroscale_cli.vocabulary import SHORT
from tests.cli import reference


def test_the_reference_stands_as_the_commands_draw_it() -> None:
    drawn = reference.render().strip("\n") + "\n"
    assert reference.standing() == drawn, "run: python -m tests.cli.reference"


def test_every_command_and_every_option_is_documented() -> None:
    page = reference.PAGE.read_text()
    for name, command in reference.commands().items():
        assert f"### `heteroscale {name}" in page
        for parameter in command.params:
            if parameter.name == "help" or parameter.param_type_name == "argument":
                continue
            assert any(f"`{flag}" in page for flag in parameter.opts), (name, parameter.name)


def test_programs_kinds_and_exit_codes_are_documented() -> None:
    page = reference.PAGE.read_text()
    for name, line in handover.DESCRIPTIONS.items():
        assert f"`heteroscale {name}" in page
        assert line.rstrip(".") in page
    for kind, short in SHORT.items():
        assert f"| {kind.value} | {kind.value.removesuffix('s')}, {short} |" in page
    for code in (EXIT_REFUSED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_INTERRUPTED):
        assert f"| {code} |" in page


def shown_plans() -> list[tuple[str, str]]:
    """Return the plans on example files that the page on placement shows: command and what it prints."""
    page = (reference.PAGE.parent / "placement.md").read_text()
    shown = r"^```console\n\$ heteroscale (plan -f examples/.*)\n((?:.*\n)*?)```$"
    blocks = re.findall(shown, page, re.MULTILINE)
    return [(command, printed) for command, printed in blocks]


@pytest.mark.parametrize(("command", "printed"), shown_plans())
def test_plans_are_shown_as_they_are(
    command: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference.PAGE.parents[1])
    assert CliRunner().invoke(app, command.split()).stdout == printed


def test_there_are_plans_that_fit_and_that_do_not() -> None:
    assert len(shown_plans()) == 2
