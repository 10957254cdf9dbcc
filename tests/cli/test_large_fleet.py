"""Ten thousand nodes: topology stays a page, the picture has them all, a plan finds its place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heteroscale_cli.app import app
from heteroscale_cli.placing.folding import PAGE
from heteroscale_simulator.inventory.command import run as generate
from tests.cli.drawn import figures, parsed
from tests.cli.fleets import service_file

NODES = 10_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file of a motley fleet with faults, as `heteroscale fleet generate` makes it."""
    file = str(tmp_path_factory.mktemp("fleet") / "fleet.yaml")
    words = ["generate", "--nodes", "H20=6000,H100=3000,L20=1000", "--mixed-s1", "0.1"]
    assert generate([*words, "--quiet", "--output", file]) == 0
    return file


def typed(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result


def test_the_tree_is_a_page(fleet: str) -> None:
    lines = typed("topology", "--fleet", fleet).stdout.splitlines()
    assert len(lines) <= PAGE + 3
    assert lines[1].split()[1] == str(NODES)


def test_the_picture_has_every_node_and_the_figures_of_json(fleet: str, tmp_path: Path) -> None:
    file = tmp_path / "fleet.svg"
    typed("topology", "--fleet", fleet, "--svg", str(file))
    seen = figures(parsed(file.read_text()), "node")
    told: dict[str, Any] = json.loads(typed("topology", "--fleet", fleet, "--json").stdout)
    assert seen["boxes"] == told["nodes"] == NODES
    gpus = told["gpus"]
    assert (seen["gpus"], seen["free"]) == (gpus["total"], gpus["free"])
    assert 0 < gpus["closed"] == gpus["total"] - gpus["free"]


def test_a_plan_keeps_groups_in_an_s1_and_off_what_is_closed(fleet: str, tmp_path: Path) -> None:
    words = ("-f", service_file(tmp_path), "--prefill", "8", "--decode", "16", "--json")
    (service,) = json.loads(typed("plan", "--fleet", fleet, *words).stdout)["services"]
    assert service["affinity"]["met"] == "s1"
    roles = Counter(one["role"] for one in service["instances"])
    assert roles == {"prefill": 8, "decode": 16}
    groups: dict[str, set[str]] = {}
    for one in service["instances"]:
        groups.setdefault(one["group"], set()).add(one["ranks"][0]["topology"]["s1"])
    assert all(len(domains) == 1 for domains in groups.values())
